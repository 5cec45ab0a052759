// A module without pyo3, for crates can't be fetched while building.
use std::os::raw::c_char;

#[no_mangle]
pub extern "C" fn PyInit_uses_setuptools_rust() -> *mut u8 {
    std::ptr::null_mut()
}

#[no_mangle]
pub static KIND: c_char = 42;
