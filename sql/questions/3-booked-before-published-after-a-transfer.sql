-- Sales that were booked before a salesperson's transfer and published after it. Where the vendor does not say at which
-- branch such a sale was booked, it is taken for one of the new branch.
WITH steps AS (
    SELECT
        employee_id, branch_id, operation, run_id, last_modified,
        lag(operation) OVER (PARTITION BY employee_id, branch_id ORDER BY sequence) AS operation_before
    FROM salespersons_changes
),
arrivals AS (
    SELECT
        employee_id, branch_id, run_id, last_modified,
        lag(branch_id) OVER (PARTITION BY employee_id ORDER BY last_modified) AS branch_id_before
    FROM steps
    WHERE operation IN ('insert', 'update') AND coalesce(operation_before, 'remove') IN ('delete', 'remove')
),
published AS (
    SELECT sale_id, employee_id, min(run_id) AS run_id
    FROM sales_changes
    GROUP BY sale_id, employee_id
)
SELECT
    p.employee_name,
    coalesce(old.branch_name, a.branch_id_before) AS moved_from,
    coalesce(new.branch_name, a.branch_id) AS moved_to,
    s.sale_id,
    s.transaction_timestamp AS booked_at,
    first_seen.run_id AS published_in,
    coalesce(taken.branch_name, s.branch_id) AS sale_of,
    s.amount
FROM arrivals AS a
JOIN sales AS s ON s.employee_id = a.employee_id AND s.transaction_timestamp < a.last_modified
JOIN published AS first_seen
    ON first_seen.sale_id = s.sale_id AND first_seen.employee_id = s.employee_id AND first_seen.run_id > a.run_id
JOIN salespersons AS p ON p.employee_id = a.employee_id AND p.branch_id = a.branch_id
LEFT JOIN branches AS old ON old.branch_id = a.branch_id_before
LEFT JOIN branches AS new ON new.branch_id = a.branch_id
LEFT JOIN branches AS taken ON taken.branch_id = s.branch_id
-- Who is new has come from nowhere.
WHERE a.branch_id_before IS NOT NULL
ORDER BY booked_at, s.sale_id
