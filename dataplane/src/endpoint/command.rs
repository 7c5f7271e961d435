//! Runs one outside command (`ip`, `nsenter`, `ethtool`) and says which step failed with what words.

use super::EndpointError;
use std::process::Command;

/// Runs a command to its end and gives what it printed.
///
/// # Errors
/// `Step` with the command line and its standard error when it cannot start or does not succeed.
pub(super) fn run(step: &'static str, words: &[&str]) -> Result<String, EndpointError> {
    let failed = |said: String| EndpointError::Step {
        step,
        command: words.join(" "),
        said,
    };
    let (program, arguments) = words.split_first().expect("a command has a program");
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| failed(format!("{error} (`./x setup` installs what is needed)")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(failed(if said.is_empty() {
        output.status.to_string()
    } else {
        said
    }))
}

/// Runs a command inside the network namespace at `netns`.
///
/// # Errors
/// As `run`.
pub(super) fn run_inside(
    step: &'static str,
    netns: &str,
    words: &[&str],
) -> Result<String, EndpointError> {
    let enter = format!("--net={netns}");
    let mut all = vec!["nsenter", &enter, "--"];
    all.extend(words);
    run(step, &all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_step_the_command_and_its_words() {
        let error = run("ask for a link", &["ip", "link", "show", "dev", "pcnone"])
            .expect_err("there is no such link");
        assert_eq!(
            error.to_string(),
            "ask for a link: `ip link show dev pcnone`: Device \"pcnone\" does not exist."
        );
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let error = run("try", &["portcullis-no-such-program"]).expect_err("there is none");
        assert_eq!(
            error.to_string(),
            "try: `portcullis-no-such-program`: No such file or directory (os error 2) \
             (`./x setup` installs what is needed)"
        );
    }
}
