//! The operator's pages as a test reads them: what is typed on which host, and what is answered.

/// How the fence of a block begins that is carried out.
const FENCE: &str = "```console journey=";
/// Ends a block.
const FENCE_END: &str = "```";
/// Stands for what varies: within a line for any text, on a line of its own for any lines.
pub const VARIES: &str = "…";

/// One command of a page, and the answer that the page shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where in the page, for messages.
    pub line: usize,
    /// Which host it is typed on, as the prompt says: `host1$`.
    pub host: String,
    /// What is typed.
    pub command: String,
    /// What the page shows of the answer.
    pub shown: Vec<String>,
    /// The exit status: the number in brackets below the answer, 0 without one.
    pub status: i32,
}

/// A block of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The journey that it is a part of.
    pub journey: String,
    /// What is done in it, in order.
    pub steps: Vec<Step>,
}

/// All blocks of a page that belong to a journey, in order.
///
/// # Panics
/// A block does not begin with a prompt, or does not end.
pub fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_inside = false;
    for (line, text) in (1..).zip(page.lines()) {
        if let Some(journey) = text.strip_prefix(FENCE) {
            blocks.push(Block { journey: journey.trim().to_owned(), steps: Vec::new() });
            is_inside = true;
        } else if text == FENCE_END {
            is_inside = false;
        } else if is_inside {
            let block = blocks.last_mut().expect("a block was begun");
            take_line(&mut block.steps, line, text);
        }
    }
    assert!(!is_inside, "the page's last block does not end");
    blocks
}

fn take_line(steps: &mut Vec<Step>, line: usize, text: &str) {
    if let Some((host, command)) = prompt(text) {
        let (host, command) = (host.to_owned(), command.to_owned());
        steps.push(Step { line, host, command, shown: Vec::new(), status: 0 });
        return;
    }
    let step = steps.last_mut().unwrap_or_else(|| panic!("line {line}: an answer before any command"));
    if let Some(part) = step.command.strip_suffix('\\') {
        step.command = format!("{part}{}", text.trim_start());
        return;
    }
    let status = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.parse().ok());
    match status {
        Some(status) => step.status = status,
        None => step.shown.push(text.to_owned()),
    }
}

fn prompt(text: &str) -> Option<(&str, &str)> {
    let (host, command) = text.split_once("$ ")?;
    let is_host = host.strip_prefix("host").is_some_and(|number| number.parse::<usize>().is_ok());
    is_host.then_some((host, command))
}

/// Whether an answer is as the page shows it. How far things are indented and spread does not count, nor do empty lines.
pub fn is_as_shown(shown: &[String], answer: &str) -> bool {
    let shown: Vec<String> = shown.iter().map(|line| single_spaced(line)).filter(|l| !l.is_empty()).collect();
    let answer: Vec<String> = answer.lines().map(single_spaced).filter(|line| !line.is_empty()).collect();
    lines_match(&shown, &answer)
}

fn single_spaced(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn lines_match(shown: &[String], answer: &[String]) -> bool {
    match shown.split_first() {
        None => answer.is_empty(),
        Some((first, rest)) if first == VARIES => {
            (0..=answer.len()).any(|skipped| lines_match(rest, &answer[skipped..]))
        }
        Some((first, rest)) => answer
            .split_first()
            .is_some_and(|(line, others)| line_matches(first, line) && lines_match(rest, others)),
    }
}

fn line_matches(shown: &str, line: &str) -> bool {
    match shown.split_once(VARIES) {
        None => shown == line,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| line_matches(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_read_with_host_command_answer_and_status() {
        let page = "text\n```console journey=one\nhost2$ quorate a \\\n    b\nREFUSED: …\n[2]\nhost1$ c\n```\n\n```sh\nx\n```\n";
        let blocks = blocks(page);
        assert_eq!(blocks.len(), 1);
        assert_eq!(blocks[0].journey, "one");
        let [first, second] = blocks[0].steps.as_slice() else { panic!("{blocks:?}") };
        assert_eq!((first.host.as_str(), first.command.as_str(), first.status), ("host2", "quorate a b", 2));
        assert_eq!(first.shown, ["REFUSED: …"]);
        assert_eq!((second.host.as_str(), second.line, second.status), ("host1", 7, 0));
    }

    #[test]
    fn only_what_is_said_to_vary_may_vary() {
        let shown = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        assert!(is_as_shown(&shown(&["a  … c"]), "a b b c\n\n"));
        assert!(!is_as_shown(&shown(&["a … c"]), "a b d\n"));
        assert!(!is_as_shown(&shown(&["a"]), "a\nb\n"));
        assert!(!is_as_shown(&shown(&["a", "b"]), "a\n"));
        assert!(is_as_shown(&shown(&["a", "…", "b"]), "a\nx\ny\nb\n"));
        assert!(is_as_shown(&shown(&["…"]), ""));
        assert!(!is_as_shown(&shown(&[]), "something\n"));
    }
}
