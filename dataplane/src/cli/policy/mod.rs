//! `portcullis policy`.

mod ask;
mod check;
pub mod recorded;
mod span;

use super::{ExplainArgs, Output, PolicyCommand};
use crate::ipc::{Answer, Request};
use crate::review::{self, Question, Reading};
use std::path::Path;
use std::process::ExitCode;

/// The exit code of `explain` for a connection that is dropped, and of `diff` when verdicts change.
const DENIED_OR_CHANGED: u8 = 4;

/// Checks, explains, compares.
pub fn policy(command: PolicyCommand) -> Result<ExitCode, String> {
    match command {
        PolicyCommand::Unused {
            span,
            output,
            socket,
        } => unused(span.as_deref(), output, &socket),
        PolicyCommand::Check {
            files,
            compat_cilium,
            output,
        } => check::check(&files, compat_cilium, output),
        PolicyCommand::Crds => print(&definitions()?).map(|()| ExitCode::SUCCESS),
        PolicyCommand::Explain(args) => explain(&args),
        PolicyCommand::Diff { old, new, output } => diff(&old, &new, output),
        PolicyCommand::Suggest(args) => recorded::suggest(&args),
        PolicyCommand::Replay(args) => recorded::replay(&args),
        PolicyCommand::Matrix {
            state,
            output,
            socket,
        } => matrix(state.as_deref(), output, &socket),
    }
}

fn explain(args: &ExplainArgs) -> Result<ExitCode, String> {
    let question = Question {
        from: args.from.clone(),
        to: args.to.clone(),
        port: args.port.clone(),
    };
    let explanation = match &args.state {
        Some(state) => review::explain(&load(state)?, &question)?,
        None => match ask::one(&args.socket, &Request::Explain(question))? {
            Answer::Explanation(explanation) => *explanation,
            _ => return Err(ask::UNEXPECTED.into()),
        },
    };
    show(&explanation, args.output, review::Explanation::text)?;
    Ok(code(!explanation.is_forwarded()))
}

fn diff(old: &Path, new: &Path, output: Output) -> Result<ExitCode, String> {
    let difference = review::compare(&load(old)?, &load(new)?);
    show(&difference, output, review::Difference::text)?;
    Ok(code(difference.has_changes()))
}

fn matrix(state: Option<&Path>, output: Output, socket: &Path) -> Result<ExitCode, String> {
    let matrix = match state {
        Some(state) => review::matrix(&load(state)?)?,
        None => match ask::one(socket, &Request::Matrix)? {
            Answer::Matrix(matrix) => *matrix,
            _ => return Err(ask::UNEXPECTED.into()),
        },
    };
    show(&matrix, output, review::Matrix::text)?;
    Ok(ExitCode::SUCCESS)
}

fn unused(span: Option<&str>, output: Output, socket: &Path) -> Result<ExitCode, String> {
    let span = span
        .map(|text| span::seconds(text).map_err(|e| format!("--for: {e}, found \"{text}\"")))
        .transpose()?;
    match ask::one(socket, &Request::Unused { span })? {
        Answer::Unused(unused) => show(&*unused, output, review::Unused::text)?,
        _ => return Err(ask::UNEXPECTED.into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn code(is_denied_or_changed: bool) -> ExitCode {
    if is_denied_or_changed {
        DENIED_OR_CHANGED.into()
    } else {
        ExitCode::SUCCESS
    }
}

fn load(path: &Path) -> Result<Reading, String> {
    Reading::load(path).map_err(|errors| errors.join("\n"))
}

fn show<T: serde::Serialize>(
    shown: &T,
    output: Output,
    text: impl FnOnce(&T) -> String,
) -> Result<(), String> {
    let text = match output {
        Output::Text => text(shown),
        Output::Json => serde_json::to_string_pretty(shown).map_err(|e| e.to_string())? + "\n",
    };
    print(&text)
}

/// Each definition as a document of YAML.
fn definitions() -> Result<String, String> {
    let definitions = portcullis_policy::custom_resource_definitions();
    let texts = definitions.iter().map(|definition| {
        let text = serde_saphyr::to_string(definition).map_err(|e| e.to_string())?;
        Ok(format!("---\n{}\n", text.trim()))
    });
    texts.collect()
}

fn print(text: &str) -> Result<(), String> {
    match std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes()) {
        // `matrix | head` is no fault.
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.to_string()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_yaml_that_says_what_we_mean() {
        let read: Vec<serde_json::Value> =
            serde_saphyr::from_multiple(&definitions().expect("text")).expect("YAML");
        assert_eq!(read, portcullis_policy::custom_resource_definitions());
    }
}
