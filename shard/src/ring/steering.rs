//! Which listener of a port gets a connection: the one whose shard runs on the core that the connection came in on.
//!
//! Listeners that share a port (SO_REUSEPORT) get connections by a hash of the addresses. A filter may choose instead
//! (SO_ATTACH_REUSEPORT_CBPF, socket(7)): it answers with the place of a listener in the order in which they were bound, and where there is no such
//! place the hash decides. Where the card spreads packets over the shards' cores, a connection whose shard runs on the core of its packets is
//! handled by one core from the interrupt to the answer.

use std::io;
use std::os::fd::OwnedFd;

use super::socket::option_write;

/// Instructions for each core.
const PER_CORE: usize = 6;

/// Cores that a filter may name: a program has at most 4096 instructions (`BPF_MAXINSNS` of linux/bpf_common.h).
const CORES_MAX: usize = (4096 - 2) / PER_CORE;

/// `SKF_AD_OFF + SKF_AD_CPU` of linux/filter.h: loads from there give the number of the core that runs the filter.
const THIS_CORE: u32 = (-0x1000_i32 + 36).cast_unsigned();

/// `SKF_AD_OFF + SKF_AD_RANDOM`: a random number.
const RANDOM: u32 = (-0x1000_i32 + 56).cast_unsigned();

/// A place that no listener has.
const NOBODY: u32 = u32::MAX;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;

/// Has connections of a port go to the listener on the core that they come in on. `cores` are those of the port's listeners, in the order in which they were
/// bound; `listener` is any of them. Of several on one core one is chosen at random.
///
/// # Errors
/// The kernel's answer; `InvalidInput` where there are more than 682 different cores.
pub fn steer_by_core(listener: &OwnedFd, cores: &[usize]) -> io::Result<()> {
    let Some(mut program) = program(cores) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let filter = libc::sock_fprog {
        // No more than `BPF_MAXINSNS`, see `CORES_MAX`.
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel reads as many instructions as the structure says there are, and they are alive.
    unsafe {
        option_write(
            listener,
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            &filter,
        )
    }
}

/// The filter: for each core a test, and the place of one of its listeners as the answer.
fn program(cores: &[usize]) -> Option<Vec<libc::sock_filter>> {
    let mut distinct: Vec<usize> = Vec::new();
    for core in cores {
        if !distinct.contains(core) {
            distinct.push(*core);
        }
    }
    if distinct.len() > CORES_MAX {
        return None;
    }
    // Shards take the cores in turn, so places on one core are as far from each other as there are cores.
    let step = distinct.len();
    let mut program = vec![instruction(LOAD, THIS_CORE)];
    for (first, core) in distinct.into_iter().enumerate() {
        debug_assert_eq!(cores.get(first), Some(&core), "cores are taken in turn");
        let count = (cores.len() - first).div_ceil(step);
        program.extend([
            jump_unless_equal(core as u32, PER_CORE as u8 - 1),
            instruction(LOAD, RANDOM),
            instruction(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, count as u32),
            instruction(libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K, step as u32),
            instruction(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K, first as u32),
            instruction(libc::BPF_RET | libc::BPF_A, 0),
        ]);
    }
    program.push(instruction(libc::BPF_RET | libc::BPF_K, NOBODY));
    Some(program)
}

const fn instruction(code: u32, operand: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k: operand,
    }
}

/// Goes over so many instructions unless the accumulator is `value`.
const fn jump_unless_equal(value: u32, over: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: 0,
        jf: over,
        k: value,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    /// Runs a filter as the kernel does, on a core and with a random number.
    fn run(program: &[libc::sock_filter], core: u32, random: u32) -> u32 {
        let (mut accumulator, mut place) = (0_u32, 0);
        loop {
            let one = program[place];
            place += 1;
            match u32::from(one.code) {
                LOAD if one.k == THIS_CORE => accumulator = core,
                LOAD if one.k == RANDOM => accumulator = random,
                code if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => {
                    let over = if accumulator == one.k { one.jt } else { one.jf };
                    place += usize::from(over);
                }
                code if code == libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K => accumulator %= one.k,
                code if code == libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K => accumulator *= one.k,
                code if code == libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K => accumulator += one.k,
                code if code == libc::BPF_RET | libc::BPF_A => return accumulator,
                code if code == libc::BPF_RET | libc::BPF_K => return one.k,
                code => panic!("instruction {code}"),
            }
        }
    }

    #[test]
    fn a_connection_goes_to_a_listener_on_its_core() {
        // Five shards on three cores, in turn.
        let cores = [4, 9, 2, 4, 9];
        let program = program(&cores).unwrap();
        for core in [4, 9, 2] {
            let mut chosen = std::collections::BTreeSet::new();
            for random in 0..100 {
                let place = run(&program, core as u32, random) as usize;
                assert_eq!(cores[place], core);
                chosen.insert(place);
            }
            let all = cores.iter().filter(|other| **other == core).count();
            assert_eq!(chosen.len(), all, "each of them");
        }
        assert_eq!(run(&program, 3, 7), NOBODY, "no shard is there");
    }

    #[test]
    fn a_program_has_an_end() {
        let many: Vec<usize> = (0..CORES_MAX).collect();
        assert!(program(&many).unwrap().len() <= 4096);
        let more: Vec<usize> = (0..=CORES_MAX).collect();
        assert!(program(&more).is_none());
    }
}
