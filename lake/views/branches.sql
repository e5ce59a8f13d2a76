-- Each branch as it is now: its newest change, unless that took it away.
SELECT
    branch_id, branch_name, branch_location, employees, opened, rent, floor_space,
    lifetime_revenue, attributes, last_modified, run_id, changed_at
FROM (
    SELECT
        operation, branch_id, branch_name, branch_location, employees, opened, rent, floor_space,
        lifetime_revenue, attributes, last_modified, run_id, changed_at,
        row_number() OVER (PARTITION BY branch_id ORDER BY sequence DESC, run_id NULLS LAST) AS newest_first
    FROM branches_log
) AS numbered
WHERE newest_first = 1 AND operation NOT IN ('delete', 'remove')
