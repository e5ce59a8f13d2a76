-- Each run at each branch: it is complete there once its salespersons are known and each of them is done.
SELECT
    CAST(replace(replace(numbered.run_id, 'T', ' '), 'Z', '') AS TIMESTAMP) AS run_id,
    branch_id, kind, first_at, last_at, listed_at, complete, salespersons_expected,
    salespersons_finished, salespersons_dead, api_calls, api_throttles, rejected, dead_lettered,
    held_back, branches_inserted, branches_updated, branches_unchanged, branches_skipped,
    branches_deleted, salespersons_inserted, salespersons_updated, salespersons_unchanged,
    salespersons_skipped, salespersons_deleted, sales_inserted, sales_updated, sales_unchanged,
    sales_skipped, sales_deleted, reasons
FROM (
    SELECT
        run_id, branch_id, kind, first_at, last_at, listed_at, complete, salespersons_expected,
        salespersons_finished, salespersons_dead, api_calls, api_throttles, rejected,
        dead_lettered, held_back, branches_inserted, branches_updated, branches_unchanged,
        branches_skipped, branches_deleted, salespersons_inserted, salespersons_updated,
        salespersons_unchanged, salespersons_skipped, salespersons_deleted, sales_inserted,
        sales_updated, sales_unchanged, sales_skipped, sales_deleted, reasons,
        row_number() OVER (PARTITION BY run_id, branch_id ORDER BY sequence DESC) AS newest_first
    FROM runs_log
    WHERE branch_id <> ''
) AS numbered
WHERE newest_first = 1
