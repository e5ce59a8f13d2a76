-- What has changed in the day before the newest change.
WITH changes AS (
    SELECT 'branch' AS record, operation, changed_at FROM branches_changes
    UNION ALL
    SELECT 'salesperson' AS record, operation, changed_at FROM salespersons_changes
    UNION ALL
    SELECT 'sale' AS record, operation, changed_at FROM sales_changes
)
SELECT record, operation, count(*) AS changes
FROM changes
WHERE changed_at > (SELECT max(changed_at) FROM changes) - INTERVAL '1' DAY
GROUP BY record, operation
ORDER BY record, operation
