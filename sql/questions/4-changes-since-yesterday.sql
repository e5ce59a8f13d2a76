-- What has changed in the day before the newest change, by when it was fetched.
WITH changes AS (
    SELECT 'branch' AS record, operation, coalesce(last_modified, changed_at) AS fetched_at FROM branches_changes
    UNION ALL
    SELECT 'salesperson' AS record, operation, coalesce(last_modified, changed_at) AS fetched_at FROM salespersons_changes
    UNION ALL
    SELECT 'sale' AS record, operation, coalesce(last_modified, changed_at) AS fetched_at FROM sales_changes
)
SELECT record, operation, count(*) AS changes
FROM changes
WHERE fetched_at > (SELECT max(fetched_at) FROM changes) - INTERVAL '1' DAY
GROUP BY record, operation
ORDER BY record, operation
