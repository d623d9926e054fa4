//! The bytes of one file of a [`MemoryDisk`](super::MemoryDisk): seen, pending and synced.

/// Bytes that a crash keeps or loses together when it writes out of order.
const BLOCK_BYTES: usize = 512;

#[derive(Clone, Default)]
pub(super) struct Inode {
    /// As processes see it.
    pub content: Vec<u8>,
    /// What is in the content once all that is pending is written; differs from it where a failed sync lost bytes.
    written_back: Vec<u8>,
    synced: Vec<u8>,
    /// Up to here the bytes are synced and were not cut off since.
    stable: usize,
}

impl Inode {
    /// A file all of whose bytes are synced.
    pub fn settled(bytes: Vec<u8>) -> Self {
        Self { content: bytes.clone(), written_back: bytes.clone(), stable: bytes.len(), synced: bytes }
    }

    pub fn append(&mut self, bytes: &[u8]) {
        self.content.extend_from_slice(bytes);
        self.written_back.extend_from_slice(bytes);
    }

    pub fn truncate(&mut self, length: usize) {
        self.content.truncate(length);
        self.written_back.truncate(length);
        self.stable = self.stable.min(length);
    }

    pub fn sync(&mut self) {
        self.synced.truncate(self.stable);
        self.synced.extend_from_slice(&self.written_back[self.stable..]);
        self.stable = self.synced.len();
    }

    /// The system gave up on the pending bytes, told one caller, and holds them for clean.
    pub fn fail_sync(&mut self) {
        self.written_back[self.stable..].fill(0);
    }

    /// The system drops the bytes that it holds for clean, and reads them from the disk again. True if that changed any.
    pub fn forget(&mut self) -> bool {
        let differs = self.content != self.written_back;
        self.content.clone_from(&self.written_back);
        differs
    }

    pub fn after_crash(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let written = &self.written_back;
        match random.u8(..4) {
            0 => self.synced.clone(),
            1 => written.clone(),
            2 => written[..random.usize(self.stable..=written.len())].to_vec(),
            _ => {
                let mut bytes = written[..random.usize(self.stable..=written.len())].to_vec();
                let mut start = self.stable;
                while start < bytes.len() {
                    let end = bytes.len().min((start / BLOCK_BYTES + 1) * BLOCK_BYTES);
                    match random.u8(..6) {
                        0 => bytes[start..end].fill(0),
                        1 => random.fill(&mut bytes[start..end]),
                        2 => {
                            let old = self.synced.get(start..end.min(self.synced.len())).unwrap_or_default();
                            bytes[start..start + old.len()].copy_from_slice(old);
                        }
                        _ => {}
                    }
                    start = end;
                }
                bytes
            }
        }
    }
}
