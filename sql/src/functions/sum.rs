//! `sum` that ends in an error where the sum does not fit its type: DataFusion's own goes on from the other end of the numbers,
//! and a wrong sum looks like any other. Athena's ends in an error, too.

use std::mem::size_of_val;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, DecimalType, FieldRef, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
};

/// `sum` of whatever DataFusion's takes; checked for whole numbers and decimals. `sum(DISTINCT …)` is DataFusion's own.
pub(super) fn sum() -> AggregateUDF {
    AggregateUDF::from(CheckedSum(Sum::new()))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedSum(Sum);

fn is_checked(args: &AccumulatorArgs<'_>) -> bool {
    let kind = args.return_field.data_type();
    !args.is_distinct && matches!(kind, DataType::Int64 | DataType::Decimal128(..))
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, of: &[DataType]) -> Result<DataType> {
        self.0.return_type(of)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if is_checked(&args) {
            Ok(Box::new(Total::new(args.return_field.data_type().clone())))
        } else {
            self.0.accumulator(args)
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.0.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !is_checked(&args) && self.0.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        self.0.create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if is_checked(&args) {
            self.accumulator(args)
        } else {
            self.0.create_sliding_accumulator(args)
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.0.set_monotonicity(data_type)
    }
}

/// The sum of some values. 128 bits hold those of whole numbers and more than the 38 digits of a decimal.
#[derive(Debug)]
struct Total {
    kind: DataType,
    sum: i128,
    /// How many values that are not null; of none the sum is null.
    values: u64,
}

impl Total {
    fn new(kind: DataType) -> Self {
        Self {
            kind,
            sum: 0,
            values: 0,
        }
    }

    fn each(&self, values: &ArrayRef, mut take: impl FnMut(i128) -> Result<()>) -> Result<()> {
        match &self.kind {
            DataType::Int64 => {
                let values = values.as_primitive::<Int64Type>().iter().flatten();
                values.map(i128::from).try_for_each(take)
            }
            _ => values
                .as_primitive::<Decimal128Type>()
                .iter()
                .flatten()
                .try_for_each(&mut take),
        }
    }

    fn too_large<T>(&self) -> Result<T> {
        let most = match &self.kind {
            DataType::Int64 => "9223372036854775807, the largest bigint: cast to decimal(38, 0)".to_owned(),
            DataType::Decimal128(precision, scale) => {
                format!("a decimal({precision}, {scale}) has room for: round or cast to a smaller scale")
            }
            other => other.to_string(),
        };
        exec_err!("the sum is larger than {most}")
    }
}

impl Accumulator for Total {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (mut sum, mut count) = (self.sum, self.values);
        self.each(&values[0], |value| {
            let next = sum.checked_add(value);
            (sum, count) = (next.map_or_else(|| self.too_large(), Ok)?, count + 1);
            Ok(())
        })?;
        (self.sum, self.values) = (sum, count);
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (mut sum, mut count) = (self.sum, self.values);
        self.each(&values[0], |value| {
            let next = sum.checked_sub(value);
            (sum, count) = (next.map_or_else(|| self.too_large(), Ok)?, count - 1);
            Ok(())
        })?;
        (self.sum, self.values) = (sum, count);
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = (self.values > 0).then_some(self.sum);
        match self.kind {
            DataType::Int64 => match sum.map(i64::try_from).transpose() {
                Ok(sum) => Ok(ScalarValue::Int64(sum)),
                Err(_) => self.too_large(),
            },
            DataType::Decimal128(precision, scale) => {
                if sum.is_some_and(|sum| Decimal128Type::validate_decimal_precision(sum, precision, scale).is_err()) {
                    return self.too_large();
                }
                Ok(ScalarValue::Decimal128(sum, precision, scale))
            }
            ref other => Err(exec_datafusion_err!("sum of {other} is not checked")),
        }
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}
