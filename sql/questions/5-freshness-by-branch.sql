-- The run up to which each branch is complete, beside the newest run that there is; the stalest branch first.
SELECT
    f.branch_name,
    f.complete_up_to,
    (SELECT max(run_id) FROM runs) AS newest_run
FROM freshness AS f
ORDER BY f.complete_up_to, f.branch_name
