//! libFuzzer feeds one of vxtap's fuzz targets, which `VXTAP_FUZZ` names.
//!
//! With `VXTAP_INPUTS` in the environment it does something else first, and ends:
//!
//! - `list` names the targets;
//! - `unpack FOLDER` writes the seeds of the target and what was kept for it, a file for each input;
//! - `keep FOLDER` keeps what is in the folder, and nothing else.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;
use std::{env, fs, io, process};

use vxtap::fuzzing::{TARGETS, Target, kept, pack, target};

/// Bytes of the longest input that is kept: seeds have the long ones.
const LONGEST: usize = 600;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = env::var("VXTAP_FUZZ").expect("VXTAP_FUZZ names a target");
    target(&name).unwrap_or_else(|| panic!("there is no target {name}"))
});

libfuzzer_sys::fuzz_target!(
    init: {
        if let Ok(order) = env::var("VXTAP_INPUTS") {
            inputs(&order).expect("files can be read and written");
            process::exit(0);
        }
    },
    |data: &[u8]| (TARGET.run)(data)
);

fn inputs(order: &str) -> io::Result<()> {
    match order.split_once(' ') {
        None => TARGETS.iter().for_each(|target| println!("{}", target.name)),
        Some(("unpack", folder)) => {
            for (number, input) in (TARGET.seeds)().iter().chain(&kept(TARGET.name)).enumerate() {
                fs::write(Path::new(folder).join(format!("{number:05}")), input)?;
            }
        }
        Some((_, folder)) => {
            let mut inputs = Vec::new();
            for entry in fs::read_dir(folder)? {
                inputs.push(fs::read(entry?.path())?);
            }
            inputs.retain(|input| input.len() <= LONGEST);
            // The shortest come first, in an order that says nothing else.
            inputs.sort_by_key(|input| (input.len(), input.clone()));
            let (path, bytes) = pack(TARGET.name, &inputs);
            fs::write(path, &bytes)?;
            println!("{}: {} inputs, {} bytes", TARGET.name, inputs.len(), bytes.len());
        }
    }
    Ok(())
}
