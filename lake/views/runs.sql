-- Each run: what was expected of it and done, and the sums of what it did as a whole and at its branches. The reasons are
-- those of the run as a whole; those of its branches are in runs_by_branch.
SELECT
    CAST(replace(replace(numbered.run_id, 'T', ' '), 'Z', '') AS TIMESTAMP) AS run_id,
    max(CASE WHEN branch_id = '' THEN kind END) AS kind,
    min(first_at) AS first_at,
    max(last_at) AS last_at,
    max(CASE WHEN branch_id = '' AND complete THEN 1 ELSE 0 END) = 1 AS complete,
    max(CASE WHEN branch_id = '' THEN names_expected END) AS names_expected,
    max(CASE WHEN branch_id = '' THEN names_finished END) AS names_finished,
    max(CASE WHEN branch_id = '' THEN branches_expected END) AS branches_expected,
    max(CASE WHEN branch_id = '' THEN branches_finished END) AS branches_finished,
    sum(salespersons_expected) AS salespersons_expected,
    sum(salespersons_finished) AS salespersons_finished,
    sum(salespersons_dead) AS salespersons_dead,
    sum(api_calls) AS api_calls,
    sum(api_throttles) AS api_throttles,
    sum(rejected) AS rejected,
    sum(dead_lettered) AS dead_lettered,
    sum(held_back) AS held_back,
    sum(branches_inserted) AS branches_inserted,
    sum(branches_updated) AS branches_updated,
    sum(branches_unchanged) AS branches_unchanged,
    sum(branches_skipped) AS branches_skipped,
    sum(branches_deleted) AS branches_deleted,
    sum(salespersons_inserted) AS salespersons_inserted,
    sum(salespersons_updated) AS salespersons_updated,
    sum(salespersons_unchanged) AS salespersons_unchanged,
    sum(salespersons_skipped) AS salespersons_skipped,
    sum(salespersons_deleted) AS salespersons_deleted,
    sum(sales_inserted) AS sales_inserted,
    sum(sales_updated) AS sales_updated,
    sum(sales_unchanged) AS sales_unchanged,
    sum(sales_skipped) AS sales_skipped,
    sum(sales_deleted) AS sales_deleted,
    max(CASE WHEN branch_id = '' THEN reasons END) AS reasons
FROM (
    SELECT
        run_id, branch_id, kind, first_at, last_at, names_expected, names_finished,
        branches_expected, branches_finished, salespersons_expected, salespersons_finished,
        salespersons_dead, api_calls, api_throttles, rejected, dead_lettered, held_back,
        branches_inserted, branches_updated, branches_unchanged, branches_skipped,
        branches_deleted, salespersons_inserted, salespersons_updated, salespersons_unchanged,
        salespersons_skipped, salespersons_deleted, sales_inserted, sales_updated, sales_unchanged,
        sales_skipped, sales_deleted, complete, reasons,
        row_number() OVER (PARTITION BY run_id, branch_id ORDER BY sequence DESC) AS newest_first
    FROM runs_log
) AS numbered
WHERE newest_first = 1
GROUP BY numbered.run_id
