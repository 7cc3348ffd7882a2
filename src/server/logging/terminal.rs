//! One line on the terminal that is written over again and again, below the
//! lines of the log.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Longer lines would wrap, and could not be written over.
const COLUMNS: usize = 79;
/// To the line's beginning, and away with what stands there.
const ERASE: &str = "\r\x1b[K";

/// Does the line stand there? Changed under the lock of standard error only.
static IS_DRAWN: AtomicBool = AtomicBool::new(false);

/// Is there somebody to see it?
pub fn is_there() -> bool {
    io::stderr().is_terminal()
}

/// Writes the line in the place of what it was; an empty one takes it away.
pub fn draw(text: &str) {
    // If that fails nobody can be told.
    let _ = draw_on(&mut io::stderr().lock(), &IS_DRAWN, text);
}

/// Writes a line of the log. Before it the drawn one goes; it is drawn again
/// when there is something new in it.
pub fn write_line(line: &str) -> io::Result<()> {
    write_line_on(&mut io::stderr().lock(), &IS_DRAWN, line)
}

fn draw_on(out: &mut impl Write, is_drawn: &AtomicBool, text: &str) -> io::Result<()> {
    let was_drawn = is_drawn.swap(!text.is_empty(), Ordering::Relaxed);
    if text.is_empty() && !was_drawn {
        return Ok(());
    }
    let text: String = text.chars().take(COLUMNS).collect();
    out.write_all(format!("{ERASE}{text}").as_bytes())?;
    out.flush()
}

fn write_line_on(out: &mut impl Write, is_drawn: &AtomicBool, line: &str) -> io::Result<()> {
    draw_on(out, is_drawn, "")?;
    out.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_log_stand_above_the_drawn_one() {
        let is_drawn = AtomicBool::new(false);
        let mut out = Vec::new();
        write_line_on(&mut out, &is_drawn, "one\n").unwrap();
        draw_on(&mut out, &is_drawn, "packing, 1 %").unwrap();
        write_line_on(&mut out, &is_drawn, "two\n").unwrap();
        draw_on(&mut out, &is_drawn, "packing, 2 %").unwrap();
        draw_on(&mut out, &is_drawn, "").unwrap();
        draw_on(&mut out, &is_drawn, "").unwrap();
        write_line_on(&mut out, &is_drawn, "three\n").unwrap();
        let expected =
            format!("one\n{ERASE}packing, 1 %{ERASE}two\n{ERASE}packing, 2 %{ERASE}three\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_drawn_line_does_not_wrap() {
        let mut out = Vec::new();
        draw_on(&mut out, &AtomicBool::new(false), &"ä".repeat(200)).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, format!("{ERASE}{}", "ä".repeat(COLUMNS)));
    }
}
