-- Every change of a salesperson at a branch, once each. A filter by date reads only those days' files.
SELECT
    operation, employee_id, branch_id, employee_name, occupation, hired_on, transferred_on,
    commission_rate, attributes, deleted_at, last_modified, run_id, changed_at, sequence, date
FROM (
    SELECT
        operation, employee_id, branch_id, employee_name, occupation, hired_on, transferred_on,
        commission_rate, attributes, deleted_at, last_modified, run_id, changed_at, sequence, date,
        row_number() OVER (PARTITION BY date, employee_id, branch_id, sequence ORDER BY changed_at, run_id NULLS LAST) AS occurrence
    FROM salespersons_log
) AS numbered
WHERE occurrence = 1
