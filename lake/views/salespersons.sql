-- Each salesperson at a branch as it is now: its newest change, unless that took it away.
SELECT
    employee_id, branch_id, employee_name, occupation, hired_on, transferred_on, commission_rate,
    attributes, last_modified, run_id, changed_at
FROM (
    SELECT
        operation, employee_id, branch_id, employee_name, occupation, hired_on, transferred_on,
        commission_rate, attributes, last_modified, run_id, changed_at,
        row_number() OVER (PARTITION BY employee_id, branch_id ORDER BY sequence DESC, run_id NULLS LAST) AS newest_first
    FROM salespersons_log
) AS numbered
WHERE newest_first = 1 AND operation NOT IN ('delete', 'remove')
