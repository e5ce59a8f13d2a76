-- Sales by branch and month, newest month first.
SELECT
    CAST(date_trunc('month', s.transaction_timestamp) AS DATE) AS month,
    b.branch_name,
    count(*) AS sales,
    sum(s.amount) AS amount
FROM sales AS s
JOIN branches AS b ON b.branch_id = s.branch_id
GROUP BY 1, 2
ORDER BY 1 DESC, 2
