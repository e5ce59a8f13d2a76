-- Every change of a sale, once each. A filter by date reads only those days' files.
SELECT
    operation, sale_id, employee_id, branch_id, transaction_timestamp, product, quantity,
    unit_price, amount, discount, note, attributes, deleted_at, last_modified, run_id, changed_at,
    sequence, date
FROM (
    SELECT
        operation, sale_id, employee_id, branch_id, transaction_timestamp, product, quantity,
        unit_price, amount, discount, note, attributes, deleted_at, last_modified, run_id,
        changed_at, sequence, date,
        row_number() OVER (PARTITION BY date, sale_id, employee_id, sequence ORDER BY changed_at, run_id NULLS LAST) AS occurrence
    FROM sales_log
) AS numbered
WHERE occurrence = 1
