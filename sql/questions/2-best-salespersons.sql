-- The ten salespersons who have sold the most, and where they work now.
SELECT
    p.employee_name,
    b.branch_name,
    count(*) AS sales,
    sum(s.amount) AS amount
FROM sales AS s
JOIN salespersons AS p ON p.employee_id = s.employee_id
JOIN branches AS b ON b.branch_id = p.branch_id
GROUP BY p.employee_id, p.employee_name, b.branch_name
ORDER BY amount DESC, p.employee_name
LIMIT 10
