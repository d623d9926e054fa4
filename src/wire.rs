//! STUB
/// STUB
pub fn master_id(_body: &[u8]) -> Option<String> {
    None
}
