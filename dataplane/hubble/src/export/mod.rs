//! Flows written to a file or to standard output, a JSON object a line, as `hubble observe -o json`
//! prints and reads them.

mod aggregate;
mod counts;
mod exporter;
mod file;
mod running;
mod settings;

#[cfg(test)]
mod tests;

pub use counts::ExportCounts;
pub use running::Exports;
pub use settings::ExportSettings;
