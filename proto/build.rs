//! Generates the code of `gantry.v1` with `protox`, so that building needs no protoc.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=gantry");
    let mut files: Vec<_> =
        fs::read_dir(Path::new("gantry/v1"))?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    files.sort();
    let set = protox::compile(files, ["."])?;
    let services = set.file.iter().flat_map(|file| file.service.iter().map(move |service| (file.package(), service)));
    let paths: Vec<_> = services
        .flat_map(|(package, service)| {
            service.method.iter().map(move |method| format!("/{package}.{}/{}", service.name(), method.name()))
        })
        .collect();
    fs::write(Path::new(&env::var("OUT_DIR")?).join("methods.rs"), format!("&{paths:?}"))?;
    tonic_prost_build::configure().compile_fds(set)?;
    Ok(())
}
