//! Where a command speaks: results to standard output, notes and questions to standard error.

use std::fmt::{self, Display};
use std::io::{self, BufRead, IsTerminal, Write};

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::exit::{Failure, Status};
use crate::settings::Format;

/// The command's two streams, and what is known of whoever reads them.
pub struct Console {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    format: Format,
    colour: bool,
    /// Somebody is there to be asked.
    interactive: bool,
    /// A line may be written over and over on standard error.
    progress: bool,
    progress_shown: bool,
}

impl Console {
    /// The streams of this process. Colour only on a terminal, and not if `NO_COLOR` is set.
    pub fn of_this_process() -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            format: Format::Table,
            colour: io::stdout().is_terminal() && !no_colour,
            interactive: io::stdin().is_terminal() && io::stderr().is_terminal(),
            progress: io::stderr().is_terminal(),
            progress_shown: false,
        }
    }

    /// Streams that are no terminal.
    pub fn captured(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        Self {
            out,
            err,
            format: Format::Table,
            colour: false,
            interactive: false,
            progress: false,
            progress_shown: false,
        }
    }

    /// People or programs.
    pub fn set_format(&mut self, format: Format) {
        self.format = format;
    }

    /// Whether programs read standard output.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether standard output may be coloured.
    pub fn colour(&self) -> bool {
        self.colour
    }

    /// Writes bytes to standard output.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        heard(self.out.write_all(bytes).and_then(|()| self.out.flush()))
    }

    /// Writes bytes of which more may follow to standard output, so that it matters whether anybody reads.
    ///
    /// # Errors
    /// They cannot be written; [`Failure::is_closed_output`] if the reader closed its end.
    pub fn stream(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.out.write_all(bytes).and_then(|()| self.out.flush());
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::closed_output(),
            _ => cannot_say(&error),
        })
    }

    /// Writes text and a newline to standard output.
    pub fn line(&mut self, text: impl Display) -> Result<(), Failure> {
        let text = text.to_string();
        heard(writeln!(self.out, "{}", Plain::Lines(&text)))
    }

    /// Writes exactly one line to standard output, whatever is in the text.
    pub fn entry(&mut self, text: impl Display) -> Result<(), Failure> {
        let text = text.to_string();
        heard(writeln!(self.out, "{}", Plain::Line(&text)))
    }

    /// Writes one JSON document to standard output.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).expect("results have text keys only");
        heard(writeln!(self.out, "{}", Plain::Json(&text)))
    }

    /// Writes one JSON document as one line of many to standard output.
    ///
    /// # Errors
    /// It cannot be written; [`Failure::is_closed_output`] if the reader closed its end.
    pub fn json_line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).expect("results have text keys only");
        self.stream(format!("{}\n", Plain::Json(&text)).as_bytes())
    }

    /// Writes exactly one line of many to standard output, whatever is in the text.
    ///
    /// # Errors
    /// As [`Self::json_line`].
    pub fn record(&mut self, text: impl Display) -> Result<(), Failure> {
        let text = text.to_string();
        self.stream(format!("{}\n", Plain::Line(&text)).as_bytes())
    }

    /// The first line of an answer: `WORD: text`, the word in the status's colour.
    pub fn verdict(&mut self, status: Status, word: &str, text: impl Display) -> Result<(), Failure> {
        let (word, text) = (self.coloured(status, word), text.to_string());
        heard(writeln!(self.out, "{word}: {}", Plain::Line(&text)))
    }

    fn coloured(&self, status: Status, word: &str) -> String {
        let colour = match status {
            Status::Done => "32",
            Status::Warning => "33",
            Status::Refused | Status::Usage => "31",
            Status::Unknown => "35",
        };
        if self.colour { format!("\x1b[1;{colour}m{word}\x1b[0m") } else { word.to_owned() }
    }

    /// Rows under a header, in columns.
    pub fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>) -> Result<(), Failure> {
        self.line(columns(header, rows))
    }

    /// The commands to type next, last in an answer.
    pub fn next(&mut self, commands: &[String]) -> Result<(), Failure> {
        commands.iter().enumerate().try_for_each(|(position, command)| {
            let label = if position == 0 { "Next:" } else { "     " };
            self.entry(format_args!("{label} {command}"))
        })
    }

    /// A line on standard error. What cannot be said there is not said.
    pub fn note(&mut self, text: impl Display) {
        self.end_progress();
        let text = text.to_string();
        let _ = writeln!(self.err, "{}", Plain::Lines(&text));
    }

    /// A line on standard error that the next one replaces; only on a terminal.
    pub fn progress(&mut self, text: impl Display) {
        if self.progress {
            let text = text.to_string();
            let _ = write!(self.err, "\r\x1b[2K{}", Plain::Line(&text)).and_then(|()| self.err.flush());
            self.progress_shown = true;
        }
    }

    fn end_progress(&mut self) {
        if std::mem::take(&mut self.progress_shown) {
            let _ = write!(self.err, "\r\x1b[2K");
        }
    }

    /// Says why a command failed: JSON to standard output, or text to standard error.
    pub fn failure(&mut self, failure: &Failure) {
        self.end_progress();
        if self.is_json() {
            // Nobody is left to tell if this fails.
            let _ = self.json(failure);
            return;
        }
        let word = failure.status.word();
        let _ = writeln!(self.err, "{word}: {}", Plain::Lines(&failure.message));
        for (position, command) in failure.next.iter().enumerate() {
            let label = if position == 0 { "Next:" } else { "     " };
            let _ = writeln!(self.err, "{label} {}", Plain::Line(command));
        }
    }

    /// The command is over: everything said is on its way.
    pub(crate) fn finish(&mut self, status: Status) -> Status {
        self.end_progress();
        let _ = self.err.flush();
        match heard(self.out.flush()) {
            Ok(()) => status,
            Err(_) if status == Status::Done => Status::Refused,
            Err(_) => status,
        }
    }

    /// Asks before a dangerous act; `yes` is the answer given on the command line.
    pub fn confirm(&mut self, question: &str, yes: bool) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        if !self.interactive {
            return Err(Failure::usage(format!(
                "{question} Nobody is here to answer: repeat the command with --yes"
            )));
        }
        self.end_progress();
        let _ = write!(self.err, "{} [y/N] ", Plain::Line(question)).and_then(|()| self.err.flush());
        let mut answer = String::new();
        io::stdin()
            .lock()
            .read_line(&mut answer)
            .map_err(|error| Failure::io("cannot read the answer", &error))?;
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
        Err(Failure::new(Status::Refused, "not-confirmed", "nothing was done: the answer was not yes"))
    }
}

/// Text that may come from a file or a peer, for a terminal: what would steer it, or turn the direction of writing, is
/// shown by its number.
#[derive(Clone, Copy, Debug)]
enum Plain<'a> {
    /// Several lines.
    Lines(&'a str),
    /// Exactly one.
    Line(&'a str),
    /// JSON, in which such letters can only be inside strings.
    Json(&'a str),
}

/// Whether a letter does something else than show.
fn steers(letter: char) -> bool {
    let is_direction = matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}');
    letter.is_control() || is_direction || matches!(letter, '\u{2066}'..='\u{2069}')
}

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, kept): (_, &[char]) = match self {
            Self::Lines(text) | Self::Json(text) => (*text, &['\n', '\t']),
            Self::Line(text) => (*text, &['\t']),
        };
        for letter in text.chars() {
            match self {
                _ if !steers(letter) || kept.contains(&letter) => write!(f, "{letter}")?,
                Self::Json(_) => write!(f, "\\u{:04x}", u32::from(letter))?,
                _ => write!(f, "{}", letter.escape_default())?,
            }
        }
        Ok(())
    }
}

/// What became of an answer. A reader that closed its end has what it wanted: the command ends as it would have.
fn heard(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(cannot_say(&error)),
        _ => Ok(()),
    }
}

fn cannot_say(error: &io::Error) -> Failure {
    Failure::io("cannot write to standard output", error)
}

/// Rows under a header as text, without blanks at the ends of lines.
pub fn columns(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.to_vec());
    let plain = |cell: String| Plain::Line(&cell).to_string();
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(plain).collect::<Vec<_>>()));
    let lines: Vec<String> = table.lines().map(|line| format!("  {}", line.trim())).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_end_without_blanks() {
        let text = columns(
            &["name", "ready"],
            vec![vec!["a".into(), "1".into()], vec!["long-name".into(), "22".into()]],
        );
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        let at = lines[0].find("ready").unwrap();
        assert!(lines[1][at..].starts_with('1') && lines[2][at..].starts_with("22"), "{text}");
        assert!(lines.iter().all(|line| !line.ends_with(' ')));
    }

    #[test]
    fn nothing_in_a_text_steers_the_terminal() {
        let hostile = "a\x1b]0;x\x07\u{9b}2J\r\nOK: \u{202e}safe";
        let shown = Plain::Line(hostile).to_string();
        assert_eq!(shown, r"a\u{1b}]0;x\u{7}\u{9b}2J\r\nOK: \u{202e}safe");
        assert_eq!(Plain::Lines(hostile).to_string().lines().count(), 2);
        let rows = vec![vec![hostile.to_owned(), "b".to_owned()]];
        assert!(!columns(&["name", "x"], rows).chars().any(|letter| letter != '\n' && steers(letter)));
        let json = serde_json::to_string_pretty(&vec![hostile]).unwrap();
        let plain = Plain::Json(&json).to_string();
        assert!(!plain.chars().any(|letter| letter != '\n' && steers(letter)), "{plain:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&plain).unwrap(), vec![hostile.to_owned()]);
    }

    #[test]
    fn a_stream_ends_when_nobody_reads_it_any_more() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut console = Console::captured(Box::new(writer), Box::new(io::sink()));
        assert_eq!(console.line("an answer"), Ok(()));
        let failure = console.stream(b"one of many\n").unwrap_err();
        assert!(failure.is_closed_output());
        assert_eq!(failure.status, Status::Warning);
        assert_eq!(console.finish(Status::Done), Status::Done);
    }

    #[test]
    fn without_a_terminal_a_question_needs_its_answer_on_the_command_line() {
        let mut console = Console::captured(Box::new(io::sink()), Box::new(io::sink()));
        assert!(console.confirm("Sure?", true).is_ok());
        let failure = console.confirm("Sure?", false).unwrap_err();
        assert_eq!(failure.status.code(), 64);
        assert!(failure.message.contains("--yes"));
    }
}
