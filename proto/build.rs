//! Generates the code of `gantry.v1` with `protox`, so that building needs no protoc.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=gantry");
    let mut files: Vec<_> =
        fs::read_dir(Path::new("gantry/v1"))?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    files.sort();
    let set = protox::compile(files, ["."])?;
    let services = set.file.iter().flat_map(|file| file.service.iter().map(move |service| (file.package(), service)));
    let methods: Vec<_> = services
        .flat_map(|(package, service)| {
            let path = move |name: &str| format!("/{package}.{}/{name}", service.name());
            service.method.iter().map(move |method| (path(method.name()), method.server_streaming()))
        })
        .collect();
    let all: Vec<_> = methods.iter().map(|(path, _)| path).collect();
    let streams: Vec<_> = methods.iter().filter(|(_, streams)| *streams).map(|(path, _)| path).collect();
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("methods.rs"), format!("&{all:?}"))?;
    fs::write(Path::new(&out).join("streams.rs"), format!("&{streams:?}"))?;
    tonic_prost_build::configure().compile_fds(set)?;
    Ok(())
}
