//! Flows written to a file or to standard output, a JSON object a line, as `hubble observe -o json`
//! prints and reads them.

mod aggregate;
mod counts;
mod exporter;
mod file;
mod settings;

#[cfg(test)]
mod tests;

pub use counts::ExportCounts;
pub use exporter::Exporter;
pub use settings::ExportSettings;
