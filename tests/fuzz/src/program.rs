//! The program `fuzz`, for any set of targets.
//!
//! ```text
//! fuzz list                                     the targets
//! fuzz TARGET [--seconds N] [--seed N]          mutate until the time is over, or something breaks
//!             [--save]                          then leave the fewest inputs that cover everything in tests/corpus/TARGET
//! fuzz TARGET --input FILE                      run one input
//! ```

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::engine::{self, Found};
use crate::{Target, corpus, coverage};

#[derive(Debug, Default)]
struct Options {
    target: Option<String>,
    seconds: Option<u64>,
    seed: Option<u64>,
    save: bool,
    input: Option<PathBuf>,
}

fn read_options(arguments: impl IntoIterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument}: a value is missing"));
        let number = |text: String| text.parse().map_err(|_| format!("{text}: not a number"));
        match argument.as_str() {
            "--seconds" => options.seconds = Some(number(value()?)?),
            "--seed" => options.seed = Some(number(value()?)?),
            "--input" => options.input = Some(value()?.into()),
            "--save" => options.save = true,
            _ if options.target.is_none() && !argument.starts_with('-') => options.target = Some(argument),
            _ => return Err(format!("{argument}: not known")),
        }
    }
    Ok(options)
}

/// Runs the program with this process's arguments.
pub fn main(targets: &[Target]) -> ExitCode {
    match run(targets) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("fuzz: {why}");
            ExitCode::from(2)
        }
    }
}

fn run(targets: &[Target]) -> Result<ExitCode, String> {
    let options = read_options(std::env::args().skip(1))?;
    let known = || targets.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    let name = options.target.clone().ok_or_else(|| format!("which target? there are {}", known()))?;
    if name == "list" {
        println!("{}", known());
        return Ok(ExitCode::SUCCESS);
    }
    let target = targets
        .iter()
        .find(|target| target.name == name)
        .ok_or_else(|| format!("{name}: no such target; there are {}", known()))?;
    if let Some(path) = &options.input {
        let input = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        // No net below: the panic says where it happened.
        println!("{name}: {:?}", (target.run)(&input));
        return Ok(ExitCode::SUCCESS);
    }
    explore(target, &options)
}

fn explore(target: &Target, options: &Options) -> Result<ExitCode, String> {
    let dir = corpus::root().join(target.name);
    let inputs: Vec<(String, Vec<u8>)> =
        corpus::read(&dir).map_err(|error| format!("{}: {error}", dir.display()))?.into_iter().collect();
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = options.seed.unwrap_or(u64::from(clock.subsec_nanos()));
    match coverage::edges() {
        0 => println!("{}: without coverage (see tests/fuzz/instrumented), seed {seed}", target.name),
        edges => println!("{}: {edges} edges are counted, seed {seed}", target.name),
    }
    // A panic is an answer here; it is told once, at the end.
    std::panic::set_hook(Box::new(|_| {}));
    let time = Duration::from_secs(options.seconds.unwrap_or(60));
    let corpus_inputs = inputs.iter().map(|(_, input)| input.clone()).collect();
    let found =
        engine::explore(target, corpus_inputs, time, seed, |found, elapsed| tell(target, found, elapsed));
    tell(target, &found, time);
    if let Some(broken) = found.broken {
        let input = engine::shrink(target, &broken.input);
        let why = engine::run_one(target, &input).err().map_or(broken.why, |broken| broken.why);
        let shorter = engine::Broken { target: target.name, input, why };
        let text = shorter.keep(&engine::failures()).map_err(|error| error.to_string())?;
        println!("{text}");
        return Ok(ExitCode::FAILURE);
    }
    if options.save {
        save(target, &inputs, found.inputs)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(target: &Target, found: &Found, elapsed: Duration) {
    println!(
        "{}: {} s, {} runs ({} accepted), {} features by {} inputs, the last new one after {} s",
        target.name,
        elapsed.as_secs(),
        found.tally.runs,
        found.tally.accepted,
        found.features,
        found.inputs.len(),
        found.last_new.as_secs()
    );
}

/// Inputs with names of their own stay: each found something.
fn save(target: &Target, before: &[(String, Vec<u8>)], inputs: Vec<Vec<u8>>) -> Result<(), String> {
    if coverage::edges() == 0 {
        return Err("without coverage nobody knows which inputs to keep: make fuzz builds with it".to_owned());
    }
    let dir = corpus::root().join(target.name);
    let kept = engine::minimise(target, inputs);
    let wrong = |error: std::io::Error| format!("{}: {error}", dir.display());
    for (name, _) in before.iter().filter(|(name, _)| corpus::is_hash(name)) {
        std::fs::remove_file(dir.join(name)).map_err(wrong)?;
    }
    for input in &kept {
        corpus::write(&dir, input).map_err(wrong)?;
    }
    let bytes: usize = kept.iter().map(Vec::len).sum();
    println!("{}: {} inputs, {bytes} bytes in {}", target.name, kept.len(), dir.display());
    Ok(())
}
