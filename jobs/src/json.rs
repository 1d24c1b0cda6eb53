//! What programs read: one JSON object a line on standard output.

use atomflow_pipeline::{
    Error, Result,
    error::Place,
    run::{Event, Outcome},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// One line: `value`, with `status` in front where there is one.
///
/// # Errors
/// The value cannot be JSON, which is a bug.
pub fn line(status: Option<&str>, value: &impl Serialize) -> Result<String> {
    let value = serde_json::to_value(value).map_err(|e| Error::bug(format!("cannot write JSON: {e}")))?;
    let mut object = Map::new();
    object.extend(status.map(|s| ("status".to_owned(), Value::from(s))));
    match value {
        Value::Object(fields) => object.extend(fields),
        other => object.extend([("value".to_owned(), other)]),
    }
    Ok(format!("{}\n", Value::Object(object)))
}

/// The line of an event.
///
/// # Errors
/// See `line`.
pub fn event(event: &Event) -> Result<String> {
    line(None, event)
}

/// The last line of a run; the one before the error where some of several learners failed.
///
/// # Errors
/// See `line`.
pub fn done(outcome: &Outcome) -> Result<String> {
    line(Some(if outcome.check().is_ok() { "done" } else { "incomplete" }), outcome)
}

/// The last line of a command that failed.
pub fn error(error: &Error) -> String {
    let object = json!({
        "status": "error",
        "kind": error.kind.as_str(),
        "message": error.message(),
        "place": place(error.place()),
        "hint": error.what_to_do(),
        "exit_code": error.kind.exit_code(),
    });
    format!("{object}\n")
}

fn place(place: &Place) -> Value {
    let parts = [
        ("object", place.object.clone().map(Value::from)),
        ("row_group", place.row_group.map(Value::from)),
        ("row", place.row.map(Value::from)),
        ("field", place.field.clone().map(Value::from)),
    ];
    parts.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_its_exit_code() {
        let text = error(&Error::data("null activation").object("s3://b/x").row(3).hint("quarantine it"));
        assert_eq!(text.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["exit_code"], 65);
        assert_eq!(value["place"], json!({ "object": "s3://b/x", "row": 3 }));
    }

    #[test]
    fn the_last_line_of_a_run_says_done() {
        let outcome = Outcome {
            run: "r".to_owned(),
            tables: [("features".to_owned(), "out/tables/features".to_owned())].into(),
            dictionary: "out/dictionary".to_owned(),
            metrics: atomflow_pipeline::run::Metrics::default(),
            wait_share: None,
            learners: Vec::new(),
        };
        let text = done(&outcome).unwrap();
        assert!(text.starts_with(r#"{"status":"done","run":"r","tables":{"features":"#), "{text}");
        assert!(text.contains(r#""metrics":{"heldout_fvu":"#));
    }
}
