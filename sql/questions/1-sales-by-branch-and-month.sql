-- Sales by branch and month, newest month first; those of a branch that is no more, or not known yet, by its id.
SELECT
    CAST(date_trunc('month', s.transaction_timestamp) AS DATE) AS month,
    coalesce(b.branch_name, s.branch_id) AS branch_name,
    count(*) AS sales,
    sum(s.amount) AS amount
FROM sales AS s
LEFT JOIN branches AS b ON b.branch_id = s.branch_id
GROUP BY 1, 2
ORDER BY 1 DESC, 2
