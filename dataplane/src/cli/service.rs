//! `portcullis service`.

use super::nat::read;
use super::{Output, pod_name, print_lines, print_text, whole};
use crate::ipc::{Answer, Request, SOCKET_PATH};
use crate::listing::services_table;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Arguments of `service`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ServiceArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<ServiceCommand>,
    /// Which to list.
    #[command(flatten)]
    pub list: ServiceListArgs,
}

/// What to do with services.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Lists them, as `portcullis service` does.
    List(ServiceListArgs),
}

/// Arguments of `service list`.
#[derive(Debug, Args)]
pub struct ServiceListArgs {
    /// Only this service: `namespace/name`, `namespace/` or `name`.
    #[arg(long, value_name = "SERVICE", value_parser = pod_name)]
    pub service: Vec<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Unix socket of the daemon.
    #[arg(long, value_name = "PATH", default_value = SOCKET_PATH)]
    pub socket: PathBuf,
}

/// Shows services.
pub fn service(args: &ServiceArgs) -> Result<(), String> {
    let args = match &args.command {
        Some(ServiceCommand::List(list)) => list,
        None => &args.list,
    };
    let is_wanted = |namespace: &str, name: &str| {
        args.service.is_empty()
            || args
                .service
                .iter()
                .any(|wanted| match wanted.split_once('/') {
                    Some((of, "")) => of == namespace,
                    Some((of, is)) => of == namespace && is == name,
                    None => wanted == name,
                })
    };
    let (services, missing) = read(&args.socket, &Request::Services, |answer| match answer {
        Answer::Service(service) if is_wanted(&service.namespace, &service.name) => Some(*service),
        _ => None,
    })?;
    match args.output {
        Output::Json => print_lines(&services)?,
        Output::Text if services.is_empty() => {
            print_text("no services: nothing matches, or no Service document is in force\n")?;
        }
        Output::Text => print_text(&services_table(&services))?,
    }
    whole(&missing)
}
