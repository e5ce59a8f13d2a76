-- The ten salespersons who have sold the most, and where they work now. Who works at two branches stands under both.
SELECT
    p.employee_name,
    coalesce(b.branch_name, p.branch_id) AS branch_name,
    count(*) AS sales,
    sum(s.amount) AS amount
FROM sales AS s
JOIN salespersons AS p ON p.employee_id = s.employee_id
LEFT JOIN branches AS b ON b.branch_id = p.branch_id
GROUP BY 1, 2, p.employee_id
ORDER BY amount DESC, p.employee_name
LIMIT 10
