-- Every change of a branch, once each. A filter by date reads only those days' files.
SELECT
    operation, branch_id, branch_name, branch_location, employees, opened, rent, floor_space,
    lifetime_revenue, attributes, deleted_at, last_modified, run_id, changed_at, sequence, date
FROM (
    SELECT
        operation, branch_id, branch_name, branch_location, employees, opened, rent, floor_space,
        lifetime_revenue, attributes, deleted_at, last_modified, run_id, changed_at, sequence, date,
        row_number() OVER (PARTITION BY date, branch_id, sequence ORDER BY changed_at, run_id NULLS LAST) AS occurrence
    FROM branches_log
) AS numbered
WHERE occurrence = 1
