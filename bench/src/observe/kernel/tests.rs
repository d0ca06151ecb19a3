#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

const SOCKSTAT: &str = "sockets: used 215\nTCP: inuse 7 orphan 1 tw 2 alloc 9 mem 263\nUDP: inuse 3 mem 4\n\
                        UDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n";
const SLABINFO: &str = "slabinfo - version: 2.1\n\
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n\
request_sock_TCP     216    216    320   12    1 : tunables    0    0    0 : slabdata     18     18      0\n\
MPTCP                  0      0   1984   16    8 : tunables    0    0    0 : slabdata      0      0      0\n\
TCP                   92    156   2368   13    8 : tunables    0    0    0 : slabdata     10     12      0\n\
:0000256 odd line\n";

#[test]
fn counts_of_sockets() {
    let counts = socket_counts(SOCKSTAT, Some("TCP6: inuse 5\nUDP6: inuse 0\n"), 4096).unwrap();
    assert_eq!(
        counts,
        SocketCounts {
            tcp_in_use: 7,
            tcp6_in_use: Some(5),
            tcp_orphans: 1,
            tcp_time_wait: 2,
            tcp_allocated: 9,
            tcp_buffer_bytes: 263 * 4096,
        }
    );
}

#[test]
fn counts_of_sockets_that_are_not_there() {
    let without_ipv6 = socket_counts(SOCKSTAT, None, 4096).unwrap();
    assert_eq!(without_ipv6.tcp6_in_use, None);
    let cases = [
        "",
        "UDP: inuse 3 mem 4\n",
        "TCP: inuse 7 orphan 1 tw 2 alloc 9\n",
        "TCP: inuse 7 orphan 1 tw 2 alloc 9 mem many\n",
    ];
    for sockstat in cases {
        assert_eq!(socket_counts(sockstat, None, 4096), None, "{sockstat:?}");
    }
}

#[test]
fn caches_that_hold_something() {
    let caches = slab_caches(SLABINFO, 4096).unwrap();
    let names: Vec<&str> = caches.iter().map(|cache| cache.name.as_str()).collect();
    assert_eq!(names, ["request_sock_TCP", "TCP"]);
    assert_eq!(
        caches[1],
        SlabCache {
            name: "TCP".to_owned(),
            objects: 156,
            object_bytes: 2368,
            bytes: 12 * 8 * 4096,
        }
    );
}

#[test]
fn texts_that_are_no_slabinfo() {
    for text in ["", "slabinfo - version: 1.1\n", "TCP 92 156 2368 13 8\n"] {
        assert_eq!(slab_caches(text, 4096), None, "{text:?}");
    }
}

fn cache(name: &str, objects: u64, bytes: u64) -> SlabCache {
    SlabCache {
        name: name.to_owned(),
        objects,
        object_bytes: 64,
        bytes,
    }
}

#[test]
fn growth_is_sorted_and_only_growth() {
    let then = [
        cache("TCP", 10, 1000),
        cache("filp", 10, 1000),
        cache("dentry", 9, 900),
    ];
    let now = [
        cache("TCP", 30, 3000),
        cache("filp", 9, 900),
        cache("dentry", 9, 900),
        cache("io_kiocb", 50, 5000),
    ];
    let grown = largest_growth(&now, &then);
    let named: Vec<(&str, i64, i64)> = grown
        .iter()
        .map(|growth| (growth.name.as_str(), growth.objects, growth.bytes))
        .collect();
    assert_eq!(named, [("io_kiocb", 50, 5000), ("TCP", 20, 2000)]);
}

fn reading() -> KernelMemory {
    KernelMemory {
        at_ns: 1000,
        total_bytes: 1_000_000,
        free_bytes: 500_000,
        available_bytes: Some(600_000),
        slab_bytes: 30_000,
        slab_reclaimable_bytes: Some(10_000),
        slab_unreclaimable_bytes: Some(20_000),
        kernel_stack_bytes: Some(5000),
        page_table_bytes: Some(6000),
        per_cpu_bytes: Some(700),
        sockets: socket_counts(SOCKSTAT, None, 4096),
        slab_caches: slab_caches(SLABINFO, 4096),
    }
}

#[test]
fn growth_counts_each_part_once() {
    let then = reading();
    let mut now = reading();
    now.at_ns = 3000;
    now.available_bytes = Some(550_000);
    now.slab_bytes += 40_000;
    now.slab_reclaimable_bytes = Some(20_000);
    now.slab_unreclaimable_bytes = Some(50_000);
    now.kernel_stack_bytes = Some(4000);
    now.page_table_bytes = Some(6100);
    if let Some(sockets) = &mut now.sockets {
        sockets.tcp_buffer_bytes += 8192;
        sockets.tcp_allocated -= 4;
    }
    let growth = now.since(&then);
    assert_eq!(growth.wall_ns, 2000);
    assert_eq!(growth.kernel_bytes, Some(40_000 - 1000 + 100));
    assert_eq!(growth.available_fall_bytes, Some(50_000));
    assert_eq!(growth.total_bytes, Some(50_000 + 10_000));
    assert_eq!(growth.kernel_stack_bytes, Some(-1000));
    assert_eq!(growth.tcp_buffer_bytes, Some(8192));
    assert_eq!(growth.tcp_allocated, Some(-4));
    assert_eq!(growth.largest_caches, Some(Vec::new()));
}

#[test]
fn what_one_reading_lacks_has_no_growth() {
    let then = reading();
    let mut now = reading();
    now.per_cpu_bytes = None;
    now.available_bytes = None;
    now.sockets = None;
    now.slab_caches = None;
    let growth = now.since(&then);
    assert_eq!(growth.kernel_bytes, None);
    assert_eq!(growth.total_bytes, None);
    assert_eq!(growth.tcp_buffer_bytes, None);
    assert_eq!(growth.largest_caches, None);
    assert_eq!(growth.slab_reclaimable_bytes, Some(0));
}

/// 500 connections are 1,000 sockets, and a socket is some kilobytes of slab, whatever else this machine is doing.
#[test]
fn sockets_show_in_the_growth() {
    const CONNECTIONS: usize = 500;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let before = KernelMemory::read().unwrap();
    let ends: Vec<_> = (0..CONNECTIONS / 50)
        .flat_map(|_| {
            let clients: Vec<_> = (0..50)
                .map(|_| std::net::TcpStream::connect(address).unwrap())
                .collect();
            clients
                .into_iter()
                .map(|client| (client, listener.accept().unwrap().0))
                .collect::<Vec<_>>()
        })
        .collect();
    let growth = KernelMemory::read().unwrap().since(&before);
    drop(ends);
    if let Some(allocated) = growth.tcp_allocated {
        assert!(allocated > 500, "{growth:?}");
    }
    if let Some(caches) = growth.largest_caches {
        assert!(!caches.is_empty());
    }
    let json = serde_json::to_string(&before).unwrap();
    assert_eq!(serde_json::from_str::<KernelMemory>(&json).unwrap(), before);
}
