-- Each branch, and the newest run for which it is complete: up to that moment its data can be trusted. How long ago that is,
-- each engine says in words of its own; in all three the difference to now() is one.
SELECT
    branch.branch_id, branch.branch_name,
    max(CAST(replace(replace(run.run_id, 'T', ' '), 'Z', '') AS TIMESTAMP)) AS complete_up_to
FROM (
    SELECT
        operation, branch_id, branch_name,
        row_number() OVER (PARTITION BY branch_id ORDER BY sequence DESC) AS newest_first
    FROM branches_log
) AS branch
LEFT JOIN (
    SELECT
        run_id, branch_id, complete,
        row_number() OVER (PARTITION BY run_id, branch_id ORDER BY sequence DESC) AS newest_first
    FROM runs_log
    WHERE branch_id <> ''
) AS run ON run.branch_id = branch.branch_id AND run.newest_first = 1 AND run.complete
WHERE branch.newest_first = 1 AND branch.operation NOT IN ('delete', 'remove')
GROUP BY branch.branch_id, branch.branch_name
