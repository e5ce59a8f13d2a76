//! What a store of objects says, told once: `object_store`'s errors repeat their causes in each text.

use std::error::Error;

use object_store::Error as StoreError;

/// The innermost cause; of an answer of S3, its code and message.
pub(crate) fn reason(error: &StoreError) -> String {
    if let StoreError::Unauthenticated { source, .. } = error {
        return source.to_string();
    }
    let mut innermost: &dyn Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    let text = innermost.to_string();
    match (element(&text, "Code"), element(&text, "Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => text,
    }
}

/// The text of an XML element.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text)
}

/// The store's error among the causes of another one, if there is one.
pub(crate) fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a StoreError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(source: &str) -> StoreError {
        StoreError::Generic {
            store: "S3",
            source: source.to_owned().into(),
        }
    }

    #[test]
    fn an_answer_of_s3_is_its_code_and_message() {
        let answer = "Server returned non-2xx status code: 404 Not Found: <?xml version=\"1.0\"?>\n<Error>\
                      <Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>";
        assert_eq!(
            reason(&generic(answer)),
            "NoSuchBucket: The specified bucket does not exist"
        );
        assert_eq!(reason(&generic("connection refused")), "connection refused");
    }

    #[test]
    fn it_is_found_among_the_causes() {
        use datafusion::error::DataFusionError;
        use datafusion::parquet::errors::ParquetError;
        let inside = DataFusionError::ParquetError(Box::new(ParquetError::External(Box::new(generic("gone")))));
        assert_eq!(find(&inside).map(reason).as_deref(), Some("gone"));
        assert!(find(&DataFusionError::Plan("no".to_owned())).is_none());
    }
}
