//! A lake that is open to questions.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::catalog::view::ViewTable;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::context::{SQLOptions, SessionContext};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionConfig;
use futures::stream::{BoxStream, StreamExt};
use lake::layout::{CHANGES, EXTENSION, PARTITION, folder};
use lake::log::Log;
use lake::views::VIEWS;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt};
use thiserror::Error;
use url::Url;

use crate::diagnosis::{Diagnosis, Known};
use crate::functions;
use crate::location::Location;
use crate::s3::{self, S3Error};
use crate::statement::{Statement, refusal};
use crate::store_error;

/// How files are named inside of DataFusion, wherever they are.
const ROOT: &str = "lake://lake/";

/// What a table's full name begins with.
pub(crate) const CATALOG: &str = "cascade";
pub(crate) const SCHEMA: &str = "lake";

/// What every Parquet file ends in. Source: the format's specification, "File Format".
const PARQUETS_END: &[u8] = b"PAR1";

/// How much memory the list of a question's files may take: some hundred thousand files.
const LISTING_BYTES: usize = 128 * 1024 * 1024;

/// What part of the memory each sort keeps for putting together what it has put aside, and the most that it needs.
const MERGE_PART: usize = 32;
const MOST_MERGE_BYTES: usize = 10 * 1024 * 1024;

/// A table or a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub about: String,
    /// Its columns and their types.
    pub columns: Vec<(String, DataType)>,
}

/// Why a lake cannot be opened.
#[derive(Debug, Error)]
pub enum LakeError {
    /// Nothing is there.
    #[error("there is no lake in {0}; a run makes one (`cargo run`), and --data or --lake chooses another place")]
    Missing(Location),
    /// It cannot be looked at.
    #[error("the lake in {location} cannot be looked at: {reason}")]
    Unread {
        /// Where it is.
        location: Location,
        /// What stands in the way.
        reason: String,
    },
    /// The bucket.
    #[error(transparent)]
    S3(#[from] S3Error),
    /// DataFusion did not take the tables or the views.
    #[error("the lake's tables cannot be made known")]
    Tables(#[from] DataFusionError),
}

/// The rows that answer a question.
pub struct Answer {
    /// Their columns.
    pub schema: SchemaRef,
    /// The rows themselves, some at a time.
    pub rows: BoxStream<'static, Result<RecordBatch, DataFusionError>>,
}

/// A lake that is open to questions.
pub struct Lake {
    context: SessionContext,
    store: Arc<dyn ObjectStore>,
    tables: Vec<Table>,
    names: Vec<String>,
    functions: Vec<String>,
}

impl Lake {
    /// Opens the lake at a place; a question may use so many bytes of memory, and writes what goes beyond to temporary
    /// files, if it can.
    ///
    /// # Errors
    /// If there is none, or it cannot be looked at.
    pub async fn open(location: &Location, memory: usize) -> Result<Self, LakeError> {
        let unread = |error| LakeError::Unread {
            location: location.clone(),
            reason: store_error::reason(&error),
        };
        let store: Arc<dyn ObjectStore> = match location {
            Location::Directory(path) if !path.is_dir() => return Err(LakeError::Missing(location.clone())),
            Location::Directory(path) => Arc::new(LocalFileSystem::new_with_prefix(path).map_err(unread)?),
            Location::Bucket { bucket, prefix } if prefix.is_empty() => s3::bucket(bucket).await?,
            Location::Bucket { bucket, prefix } => {
                Arc::new(PrefixStore::new(s3::bucket(bucket).await?, prefix.as_str()))
            }
        };
        let logs = store
            .list_with_delimiter(Some(&Path::from(CHANGES)))
            .await
            .map_err(unread)?;
        if logs.common_prefixes.is_empty() {
            return Err(LakeError::Missing(location.clone()));
        }
        Self::over(store, memory).await
    }

    /// The lake in a store; a log without files is an empty table.
    ///
    /// # Errors
    /// If DataFusion does not take the tables or the views.
    pub async fn over(store: Arc<dyn ObjectStore>, memory: usize) -> Result<Self, LakeError> {
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(memory)))
            .with_object_list_cache_limit(LISTING_BYTES)
            .build_arc()?;
        let mut config = SessionConfig::new()
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_information_schema(true)
            .with_sort_spill_reservation_bytes((memory / MERGE_PART).min(MOST_MERGE_BYTES));
        let parser = &mut config.options_mut().sql_parser;
        parser.collect_spans = true;
        // 1.1 is exact, as it is in Athena.
        parser.parse_float_as_decimal = true;
        let context = SessionContext::new_with_config_rt(config, runtime);
        let root = Url::parse(ROOT).map_err(|error| DataFusionError::External(Box::new(error)))?;
        context.register_object_store(&root, store.clone());
        for function in functions::all() {
            context.register_udf(function);
        }
        for function in functions::aggregates() {
            context.register_udaf(function);
        }
        for log in Log::ALL {
            context.register_table(log.table(), Arc::new(listing(&context, log)?))?;
        }
        for view in &VIEWS {
            let plan = context.state().create_logical_plan(view.select).await?;
            let table = ViewTable::new(plan, Some(view.select.to_owned()));
            context.register_table(view.name, Arc::new(table))?;
        }
        let tables = describe(&context).await?;
        Ok(Self {
            names: tables.iter().map(|table| table.name.clone()).collect(),
            functions: function_names(&context),
            context,
            store,
            tables,
        })
    }

    /// The views, and then the logs' raw tables.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The names of all functions, by the alphabet.
    pub fn functions(&self) -> &[String] {
        &self.functions
    }

    /// The answer to a statement of `text`. Files are listed once, whatever their tables are asked for; where one of
    /// them was replaced by a compaction before it was read, they are listed once more.
    ///
    /// # Errors
    /// If the statement cannot be understood, or reading fails before the first row.
    pub async fn ask(&self, statement: &Statement, text: &str) -> Result<Answer, Diagnosis> {
        let begun = match self.begin(statement).await {
            Err(Failure::Engine(error)) if is_replaced(&error) => self.begin(statement).await,
            begun => begun,
        };
        match begun {
            Ok(answer) => Ok(answer),
            Err(Failure::Engine(error)) => Err(self.diagnose(&error, text).await),
            Err(Failure::Refused) => Err(refusal()),
        }
    }

    /// What an error means for whoever wrote `text`.
    pub async fn diagnose(&self, error: &DataFusionError, text: &str) -> Diagnosis {
        if is_replaced(error) {
            return Diagnosis::new("files of the lake were replaced by a compaction while they were read")
                .with_hint("ask again");
        }
        if matches!(error.find_root(), DataFusionError::ParquetError(_))
            && let Some(file) = self.first_broken().await
        {
            return Diagnosis::new(format!("the file {file} of the lake is broken, or no Parquet file")).with_hint(
                "move it out of the lake; `cascade lake rebuild` writes anew what the tables still say of its rows",
            );
        }
        let known = Known {
            tables: &self.names,
            functions: &self.functions,
        };
        Diagnosis::of(error, text, known)
    }

    /// The first of the logs' files that does not end as a Parquet file does.
    async fn first_broken(&self) -> Option<String> {
        for log in Log::ALL {
            let mut files = self.store.list(Some(&folder(log).into()));
            while let Some(Ok(file)) = files.next().await {
                let path = &file.location;
                if !path.as_ref().ends_with(EXTENSION) {
                    continue;
                }
                let end = file.size.saturating_sub(PARQUETS_END.len() as u64)..file.size;
                let is_whole = file.size > 0
                    && self
                        .store
                        .get_range(path, end)
                        .await
                        .map_or(true, |end| end == PARQUETS_END);
                if !is_whole {
                    return Some(path.to_string());
                }
            }
        }
        None
    }

    async fn begin(&self, statement: &Statement) -> Result<Answer, Failure> {
        if let Some(listings) = self.context.runtime_env().cache_manager.get_list_files_cache() {
            listings.clear();
        }
        let plan = self.context.state().statement_to_plan(statement.parsed.clone()).await?;
        // Whatever SQL comes to say that the parser's tree did not show.
        let reads = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        reads.verify_plan(&plan).map_err(|_| Failure::Refused)?;
        let frame = self.context.execute_logical_plan(plan).await?;
        let task = Arc::new(frame.task_ctx());
        let plan = interruptible(frame.create_physical_plan().await?)?;
        let mut rows = execute_stream(plan, task)?;
        let schema = headed(&rows.schema(), &statement.headings);
        let first = rows.next().await.transpose()?;
        let rows = futures::stream::iter(first.map(Ok)).chain(rows);
        let named = schema.clone();
        let rows = rows.map(move |batch| {
            let batch = batch?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let columns = batch.columns().to_vec();
            Ok(RecordBatch::try_new_with_options(named.clone(), columns, &options)?)
        });
        Ok(Answer {
            schema,
            rows: rows.boxed(),
        })
    }
}

/// The plan, with a pause every some batches above whatever makes many rows of few: DataFusion pauses where rows are read,
/// and a join of a few files can go on for hours without another read, deaf to Ctrl-C.
fn interruptible(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let paused = plan.transform_up(|node| {
        Ok(if node.children().len() > 1 {
            Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>)
        } else {
            Transformed::no(node)
        })
    })?;
    Ok(paused.data)
}

/// The columns, by their headings where they have one.
fn headed(schema: &SchemaRef, headings: &[Option<String>]) -> SchemaRef {
    if headings.len() != schema.fields().len() {
        return schema.clone();
    }
    let fields = schema
        .fields()
        .iter()
        .zip(headings)
        .map(|(field, heading)| match heading {
            Some(heading) => Arc::new(field.as_ref().clone().with_name(heading)),
            None => field.clone(),
        });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Why a question was not begun.
enum Failure {
    Engine(DataFusionError),
    Refused,
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Self {
        Self::Engine(error)
    }
}

fn listing(context: &SessionContext, log: Log) -> Result<ListingTable, DataFusionError> {
    let url = ListingTableUrl::parse(format!("{ROOT}{}/", folder(log)))?;
    let options = ListingOptions::new(Arc::new(ParquetFormat::new()))
        .with_file_extension(EXTENSION)
        .with_table_partition_cols(vec![(PARTITION.to_owned(), DataType::Utf8)]);
    let config = ListingTableConfig::new(url)
        .with_listing_options(options)
        .with_schema(log.schema());
    let statistics = context.runtime_env().cache_manager.get_file_statistic_cache();
    Ok(ListingTable::try_new(config)?.with_cache(statistics))
}

async fn describe(context: &SessionContext) -> Result<Vec<Table>, DataFusionError> {
    let views = VIEWS.iter().map(|view| (view.name, view.about.to_owned()));
    let logs = Log::ALL.map(|log| {
        let about = format!(
            "the rows of {} as they lie in the files, some of them twice",
            log.name()
        );
        (log.table(), about)
    });
    let mut tables = Vec::new();
    for (name, about) in views.chain(logs) {
        let schema = context.table_provider(name).await?.schema();
        let columns = schema.fields().iter();
        tables.push(Table {
            name: name.to_owned(),
            about,
            columns: columns
                .map(|field| (field.name().clone(), field.data_type().clone()))
                .collect(),
        });
    }
    Ok(tables)
}

fn function_names(context: &SessionContext) -> Vec<String> {
    let state = context.state();
    let mut names: Vec<String> = state.scalar_functions().keys().cloned().collect();
    names.extend(state.aggregate_functions().keys().cloned());
    names.extend(state.window_functions().keys().cloned());
    names.sort_unstable();
    names.dedup();
    names
}

/// Whether a file is gone that was there when files were listed.
fn is_replaced(error: &DataFusionError) -> bool {
    matches!(store_error::find(error), Some(object_store::Error::NotFound { .. }))
}
