//! Flows as people and machines read them.

mod jsonpb;
mod lines;
mod mask;
mod time_format;

pub use jsonpb::response;
pub use time_format::TimeFormat;

use super::{flow_object, paint};
use crate::ipc::Lost;
use crate::recall::SeenFlow;
use anstyle::AnsiColor;
use clap::{Args, ValueEnum};
use serde_json::Value;
use std::io::{self, Write};

/// How flows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum FlowOutput {
    /// One line: who, verdict, why, and the number that `why` takes.
    #[default]
    Text,
    /// One line, as Hubble prints it.
    Compact,
    /// A line for each field.
    Dict,
    /// Columns.
    #[value(alias = "tab")]
    Table,
    /// One object a line.
    #[value(alias = "JSON")]
    Json,
    /// One object a line, with the names and nesting of Hubble's protobuf.
    Jsonpb,
}

/// When text has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Colour {
    /// On a terminal that has some.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Colour {
    /// Says so to all that prints.
    pub fn choose(self) {
        let choice = match self {
            Self::Auto => return,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
    }
}

/// How flows are printed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct PrintArgs {
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: FlowOutput,
    /// Only these fields, with -o json or jsonpb: `time,verdict,source.pod_name`.
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    pub field_mask: Vec<String>,
    /// Which policies allowed or denied it, with -o compact, dict or table.
    #[arg(long)]
    pub print_policy_names: bool,
    /// Which node saw it.
    #[arg(long)]
    pub print_node_name: bool,
    /// Addresses instead of names.
    #[arg(long)]
    pub numeric: bool,
    /// Whether names stand for addresses.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub ip_translation: bool,
    /// Whether text has colours.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub color: Colour,
    /// How times are written.
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        ignore_case = true,
        default_value_t
    )]
    pub time_format: TimeFormat,
}

/// Prints flows one after another.
pub struct Printer<'a> {
    args: &'a PrintArgs,
    is_silent: bool,
    /// Rows that wait until all are known, so that columns fit.
    rows: Vec<Vec<String>>,
    count: usize,
}

impl<'a> Printer<'a> {
    /// Nothing printed yet.
    pub const fn new(args: &'a PrintArgs, is_silent: bool) -> Self {
        Self {
            args,
            is_silent,
            rows: Vec::new(),
            count: 0,
        }
    }

    /// Prints one.
    pub fn print(&mut self, flow: &SeenFlow) -> io::Result<()> {
        self.count += 1;
        match self.args.output {
            FlowOutput::Json | FlowOutput::Jsonpb => self.print_object(flow, None),
            FlowOutput::Text => {
                let line = lines::text(flow, self.args);
                put(&coloured(&line, &flow.flow.verdict, &flow.flow.verdict))
            }
            FlowOutput::Compact => {
                let (line, verdict) = lines::compact(flow, self.args);
                put(&coloured(&line, &verdict, &flow.flow.verdict))
            }
            FlowOutput::Dict => {
                let rule = if self.count > 1 { "------------\n" } else { "" };
                put(&format!("{rule}{}", lines::dict(flow, self.args)))
            }
            FlowOutput::Table => {
                self.rows.push(lines::row(flow, self.args));
                Ok(())
            }
        }
    }

    /// Prints one that the daemon tells in Hubble's form.
    pub fn print_line(&mut self, line: &str) -> io::Result<()> {
        if self.args.output == FlowOutput::Jsonpb && self.args.field_mask.is_empty() {
            let mut out = io::stdout().lock();
            writeln!(out, "{line}")?;
            return out.flush();
        }
        let object: Value = serde_json::from_str(line)?;
        let seen = flow_object::flow(&object);
        self.print_read(&seen, Some(object))
    }

    /// Prints one that was read, with all that its object has where that is asked for.
    pub fn print_read(&mut self, flow: &SeenFlow, object: Option<Value>) -> io::Result<()> {
        match object {
            Some(object) if self.args.output == FlowOutput::Jsonpb => {
                self.count += 1;
                self.print_object(flow, Some(object))
            }
            _ => self.print(flow),
        }
    }

    fn print_object(&self, flow: &SeenFlow, object: Option<Value>) -> io::Result<()> {
        let fields: Vec<&str> = self.args.field_mask.iter().map(String::as_str).collect();
        let value = if self.args.output == FlowOutput::Jsonpb {
            let mut value = object.unwrap_or_else(|| jsonpb::response(flow));
            if !fields.is_empty() {
                value["flow"] = mask::masked(&value["flow"], &fields);
            }
            value
        } else if fields.is_empty() {
            serde_json::to_value(flow)?
        } else {
            mask::masked(&serde_json::to_value(flow)?, &fields)
        };
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &value)?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// Tells what went by unseen: how many and when.
    pub fn print_lost(&self, lost: &Lost) -> io::Result<()> {
        if self.args.output == FlowOutput::Jsonpb {
            let mut out = io::stdout().lock();
            return jsonpb::lost(lost)
                .iter()
                .try_for_each(|lost| writeln!(out, "{lost}"));
        }
        if self.is_silent {
            return Ok(());
        }
        if lost.count > 0 {
            let span = lost.span.map_or_else(String::new, |(first, last)| {
                let format = self.args.time_format;
                format!(", {} to {}", format.text(first), format.text(last))
            });
            anstream::eprintln!(
                "{}: {} events went by unseen{span}: this reader was too slow",
                paint("lost", AnsiColor::Yellow),
                lost.count
            );
        }
        if lost.unwritten > 0 {
            anstream::eprintln!(
                "{}: {} events were never written: a worker had no room for them",
                paint("lost", AnsiColor::Yellow),
                lost.unwritten
            );
        }
        Ok(())
    }

    /// Warns of what was not understood.
    pub fn warn(&self, fault: &str) {
        if !self.is_silent {
            anstream::eprintln!("{}: {fault}", paint("warning", AnsiColor::Yellow));
        }
    }

    /// Prints what has waited.
    pub fn finish(&self) -> io::Result<()> {
        if self.args.output == FlowOutput::Table && self.count > 0 {
            put(&lines::table(&self.rows, self.args))?;
        }
        Ok(())
    }
}

/// A reader that went away is no fault: `observe | head`. None when it did.
pub fn no_pipe<T>(printed: io::Result<T>) -> Result<Option<T>, String> {
    match printed {
        Ok(printed) => Ok(Some(printed)),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        Err(e) => Err(e.to_string()),
    }
}

fn coloured(line: &str, word: &str, verdict: &str) -> String {
    let colour = match verdict {
        "FORWARDED" => AnsiColor::Green,
        "AUDIT" => AnsiColor::Yellow,
        _ => AnsiColor::Red,
    };
    let spaced = format!(" {word} ");
    line.replacen(&spaced, &format!(" {} ", paint(word, colour)), 1) + "\n"
}

fn put(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
