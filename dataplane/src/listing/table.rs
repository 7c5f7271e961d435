//! Columns that stand below each other, and numbers as short as they can be read.

use super::Traffic;
use std::net::{IpAddr, SocketAddr};

/// A table that is as wide as its content.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With a header only.
    #[must_use]
    pub fn new(header: &[&str]) -> Self {
        Self {
            rows: vec![header.iter().map(|title| (*title).to_owned()).collect()],
        }
    }

    /// Adds a row of as many cells as the header has.
    pub fn add(&mut self, row: Vec<String>) {
        debug_assert_eq!(row.len(), self.rows[0].len());
        self.rows.push(row);
    }

    /// The lines; no spaces at their ends.
    #[must_use]
    pub fn text(&self) -> String {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// `10.0.1.10:80`, `[fd00::1]:80`.
#[must_use]
pub fn place(address: IpAddr, port: u16) -> String {
    SocketAddr::new(address, port).to_string()
}

/// `850ms`, `12s`, `3m05s`, `2h13m`, `4d02h`.
#[must_use]
pub fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds}ms"),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Packets and bytes: `12/3.4K`.
#[must_use]
pub fn amount(traffic: Traffic) -> String {
    format!("{}/{}", short(traffic.packets), short(traffic.bytes))
}

/// `999`, `12.3K`, `4.0G`, by thousands.
fn short(number: u64) -> String {
    if number < 1000 {
        return number.to_string();
    }
    let mut value = number as f64;
    for unit in ["K", "M", "G", "T"] {
        value /= 1000.0;
        if value < 999.95 {
            return format!("{value:.1}{unit}");
        }
    }
    format!("{:.1}P", value / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["A", "LONGER", "LAST"]);
        table.add(vec!["wide".into(), "x".into(), String::new()]);
        assert_eq!(table.text(), "A     LONGER  LAST\nwide  x\n");
    }

    #[test]
    fn numbers_and_times_are_short() {
        let shown = [0, 999, 1000, 12_345, 999_999, 4_000_000_000].map(short);
        assert_eq!(shown, ["0", "999", "1.0K", "12.3K", "1.0M", "4.0G"]);
        let shown = [850, 12_900, 185_000, 7_980_000, 352_800_000].map(age);
        assert_eq!(shown, ["850ms", "12s", "3m05s", "2h13m", "4d02h"]);
    }
}
