-- Each sale as it is now: its newest change, unless that took it away.
SELECT
    sale_id, employee_id, branch_id, transaction_timestamp, product, quantity, unit_price, amount,
    discount, note, attributes, last_modified, run_id, changed_at
FROM (
    SELECT
        operation, sale_id, employee_id, branch_id, transaction_timestamp, product, quantity,
        unit_price, amount, discount, note, attributes, last_modified, run_id, changed_at,
        row_number() OVER (PARTITION BY sale_id, employee_id ORDER BY sequence DESC, run_id NULLS LAST) AS newest_first
    FROM sales_log
) AS numbered
WHERE newest_first = 1 AND operation NOT IN ('delete', 'remove')
