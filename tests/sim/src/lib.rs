//! The outside world on loopback: Fisheye, the VM over SSH, CloudTower; and the files that are fed to our programs.

pub mod iso;
pub mod workbook;
