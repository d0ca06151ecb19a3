"""irq-affinity.sh on faked cards."""

import fcntl
import os
import unittest

import tree


class Machine(tree.Tree):
    """A machine of some cores with a card eth0, both faked."""

    def setUp(self):
        super().setUp()
        self.set_cores("0-7", {})
        self.write("proc/1/comm", "systemd")

    def set_cores(self, online, siblings, nodes=()):
        """`siblings` are lists by core; `nodes` are lists by node."""
        self.write("sys/devices/system/cpu/online", online)
        for core, cores in siblings.items():
            self.write(f"sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list", cores)
        for node, cores in enumerate(nodes):
            self.write(f"sys/devices/system/node/node{node}/cpulist", cores)

    def plug(self, labels, receive, transmit, listed=True, device="0000:17:00.0", mask="00"):
        """A card whose interrupts count from 40 and have these names. `listed`: the device lists them, as those on the PCI bus do."""
        directory = f"sys/devices/{device}"
        self.write(f"{directory}/vendor", "0x15b3")
        interface = self.root / "sys/class/net/eth0"
        interface.mkdir(parents=True)
        (interface / "device").symlink_to(self.root / directory)
        table = ["           CPU0       CPU1", "  9:          0          0  IO-APIC   9-fasteoi   acpi"]
        for number, label in enumerate(labels, start=40):
            table.append(f" {number}:          7          0  PCI-MSIX-0000:17:00.0   0-edge      {label}")
            self.write(f"proc/irq/{number}/smp_affinity_list", "0-7")
            if listed:
                self.write(f"{directory}/msi_irqs/{number}", "msix")
        table += ["NMI:          0          0   Non-maskable interrupts", "ERR:          0"]
        self.write("proc/interrupts", "\n".join(table))
        self.write("proc/irq/9/smp_affinity_list", "0-7")
        for queue in range(receive):
            self.write(f"sys/class/net/eth0/queues/rx-{queue}/rps_cpus", mask)
        for queue in range(transmit):
            (interface / f"queues/tx-{queue}").mkdir(parents=True)
            # The kernel has none for a card with a single queue.
            if transmit > 1:
                self.write(f"sys/class/net/eth0/queues/tx-{queue}/xps_cpus", mask)

    def bound(self):
        """What each interrupt is bound to, the card's and the other one."""
        return {int(file.parent.name): file.read_text().strip() for file in sorted((self.root / "proc/irq").glob("*/smp_affinity_list"))}

    def sends(self):
        return [self.read(f"sys/class/net/eth0/queues/tx-{queue}/xps_cpus") for queue in range(len(list((self.root / "sys/class/net/eth0/queues").glob("tx-*"))))]

    def command(self, *arguments):
        mode, *others = arguments
        roots = ["--proc-root", self.root / "proc", "--sys-root", self.root / "sys"]
        return [tree.SCRIPTS / "irq-affinity.sh", mode, "eth0", *roots, "--state", self.state, *others]


class Binding(Machine):
    def test_each_queue_goes_to_one_core_in_turn(self):
        self.plug(["eth0", *(f"eth0-TxRx-{queue}" for queue in range(6))], 6, 6)
        done = self.run_script("apply", "--cores", "2-5")
        # The first interrupt is that of the link.
        self.assertEqual(self.bound(), {9: "0-7", 40: "2", 41: "2", 42: "3", 43: "4", 44: "5", 45: "2", 46: "3"})
        self.assertEqual(self.sends(), ["4", "8", "10", "20", "4", "8"])
        self.assertIn("--cores 2,3,4,5 --steering on", done.stdout)
        self.assertEqual(done.stderr, "")

    def test_both_directions_of_a_queue_go_to_one_core(self):
        labels = ["eth0-rx-0", "eth0-rx-1", "eth0-tx-0", "eth0-tx-1"]
        self.plug(labels, 2, 2)
        self.run_script("apply", "--cores", "6,1")
        self.assertEqual(self.bound(), {9: "0-7", 40: "6", 41: "1", 42: "6", 43: "1"})
        self.assertEqual(self.sends(), ["40", "2"])

    def test_names_of_many_drivers(self):
        labels = ["mlx5_async0@pci:0000:17:00.0", "mlx5_comp10@pci:0000:17:00.0", "mlx5_comp8@pci:0000:17:00.0", "mlx5_comp9@pci:0000:17:00.0", "ena-mgmnt@pci:0000:17:00.0"]
        self.plug(labels, 3, 3)
        self.run_script("apply", "--cores", "0-2")
        # By the order of the numbers, not by the numbers, which need not begin at 0.
        self.assertEqual(self.bound(), {9: "0-7", 40: "0", 41: "2", 42: "0", 43: "1", 44: "0"})

    def test_a_card_that_lists_nothing_is_known_by_name(self):
        others = ["virtio20-input.0", "virtio1-req.0"]
        self.plug(["virtio2-config", "virtio2-input.0", "virtio2-output.0", *others], 1, 1, listed=False, device="virtio2")
        self.assertIn("with interrupts: 1;", self.run_script("show").stdout)
        self.run_script("apply", "--cores", "3")
        self.assertEqual(self.bound(), {9: "0-7", 40: "3", 41: "3", 42: "3", 43: "0-7", 44: "0-7"})

    def test_more_cores_than_queues(self):
        self.plug(["eth0-TxRx-0", "eth0-TxRx-1"], 2, 2)
        done = self.run_script("apply", "--cores", "0-4")
        self.assertEqual(self.bound(), {9: "0-7", 40: "0", 41: "1"})
        # Each core sends by some queue: 0, 2 and 4 by the first, 1 and 3 by the second.
        self.assertEqual(self.sends(), ["15", "a"])
        self.assertIn("for fewer queues (2) than cores (5)", done.stderr)
        # Steered, the shards on the other cores would get no connection.
        self.assertIn("--cores 0,1,2,3,4 --steering off", done.stdout)

    def test_more_than_32_cores(self):
        self.set_cores("0-95", {})
        self.plug([f"eth0-TxRx-{queue}" for queue in range(3)], 3, 3)
        self.run_script("apply", "--cores", "31,33,95")
        self.assertEqual(self.sends(), ["80000000", "2,00000000", "80000000,00000000,00000000"])

    def test_masks_are_compared_and_not_their_zeros(self):
        self.plug(["eth0-TxRx-0", "eth0-TxRx-1"], 2, 2)
        for queue, mask in ((0, "00000000,00000001"), (1, "00000000,00000002")):
            self.write(f"sys/class/net/eth0/queues/tx-{queue}/xps_cpus", mask)
        self.assertIn("2 changed, 2 were as wanted", self.run_script("apply", "--cores", "0-1").stdout)
        self.assertEqual(self.sends(), ["00000000,00000001", "00000000,00000002"])

    def test_packets_of_one_queue_are_handed_to_all_cores_if_asked(self):
        self.plug(["eth0-rx-0"], 1, 1)
        done = self.run_script("apply", "--cores", "0-3")
        self.assertEqual(self.read("sys/class/net/eth0/queues/rx-0/rps_cpus"), "00")
        self.assertIn("--rps", done.stderr)
        self.run_script("apply", "--cores", "0-3", "--rps")
        self.assertEqual(self.read("sys/class/net/eth0/queues/rx-0/rps_cpus"), "f")
        self.run_script("revert")
        self.assertEqual(self.read("sys/class/net/eth0/queues/rx-0/rps_cpus"), "00")

    def test_an_interrupt_that_the_kernel_keeps_is_named(self):
        self.plug([f"eth0-TxRx-{queue}" for queue in range(3)], 3, 3)
        self.make_read_only("proc/irq/41/smp_affinity_list")
        done = self.run_script("apply", "--cores", "0-2", code=2)
        self.assertIn("irq/41/smp_affinity_list cannot be set to 1: Permission denied", done.stderr)
        self.assertIn("5 changed, 0 were as wanted, 1 could not be changed", done.stdout)
        self.assertEqual(self.read("proc/irq/42/smp_affinity_list"), "2")


class Cores(Machine):
    def setUp(self):
        super().setUp()
        self.plug([f"eth0-TxRx-{queue}" for queue in range(8)], 8, 8)

    def chosen(self, *arguments):
        first_line = self.run_script("show", *arguments).stdout.splitlines()[0]
        return first_line.partition("cores ")[2]

    def test_one_thread_of_each_physical_core(self):
        self.set_cores("0-7", {core: f"{core % 4},{core % 4 + 4}" for core in range(8)})
        self.assertEqual(self.chosen(), "0 1 2 3")
        self.set_cores("0-7", {core: f"{core & ~1}-{core | 1}" for core in range(8)})
        self.assertEqual(self.chosen(), "0 2 4 6")

    def test_a_sibling_that_is_offline_does_not_count(self):
        self.set_cores("1-7", {core: f"{core & ~1}-{core | 1}" for core in range(8)})
        self.assertEqual(self.chosen(), "1 2 4 6")

    def test_those_of_the_cards_node_first(self):
        self.set_cores("0-7", {core: f"{core & ~1}-{core | 1}" for core in range(8)}, nodes=("0-3", "4-7"))
        self.write("sys/devices/0000:17:00.0/numa_node", "1")
        self.assertEqual(self.chosen(), "4 6 0 2")
        self.write("sys/devices/0000:17:00.0/numa_node", "-1")
        self.assertEqual(self.chosen(), "0 2 4 6")

    def test_those_that_were_named(self):
        self.assertEqual(self.chosen("--cores", "5,0-1"), "5 0 1")
        for cores in ("8", "1-", "3-1", "a", ""):
            with self.subTest(cores):
                self.run_script("apply", "--cores", cores, code=3)


class Keeping(Machine):
    def setUp(self):
        super().setUp()
        self.plug([f"eth0-TxRx-{queue}" for queue in range(4)], 4, 4)

    def test_revert_puts_back_every_byte(self):
        before = self.files()
        self.run_script("apply", "--cores", "0-3", "--rps")
        self.assertNotEqual(self.files(), before)
        self.run_script("apply", "--cores", "4-7")
        self.run_script("revert")
        self.assertEqual(self.files(), before)
        self.assertEqual(list(self.state.parent.iterdir()), [])

    def test_again_changes_nothing(self):
        self.run_script("apply", "--cores", "0-3")
        files, state = self.files(), self.state.read_bytes()
        self.assertIn("0 changed, 8 were as wanted", self.run_script("apply", "--cores", "0-3").stdout)
        self.assertEqual((self.files(), self.state.read_bytes()), (files, state))

    def test_after_a_reboot_there_is_nothing_to_put_back(self):
        self.run_script("apply", "--cores", "0-3")
        self.reboot()
        rebooted = self.files()
        self.assertIn("of an earlier boot", self.run_script("revert").stdout)
        self.assertEqual(self.files(), rebooted)

    def test_show_and_a_dry_run_change_nothing(self):
        before = self.files()
        shown = self.run_script("show", "--cores", "0-3").stdout
        self.assertRegex(shown, r"irq/41/smp_affinity_list +0-7 +-> 1 +eth0-TxRx-1")
        dry = self.run_script("apply", "--cores", "0-3", "--dry-run").stdout
        self.assertIn("- irq/41/smp_affinity_list = 0-7\n+ irq/41/smp_affinity_list = 1\n", dry)
        self.assertIn("8 would change", dry)
        self.assertEqual(self.files(), before)
        self.assertFalse(self.state.exists())

    def test_two_at_once_are_excluded(self):
        directory = os.open(self.root / "proc/irq", os.O_RDONLY)
        self.addCleanup(os.close, directory)
        fcntl.flock(directory, fcntl.LOCK_EX)
        before = self.files()
        self.assertIn("is at work", self.run_script("apply", code=3).stderr)
        self.assertEqual(self.files(), before)

    def test_irqbalance_is_named(self):
        self.assertNotIn("irqbalance runs", self.run_script("show", "--cores", "0-3").stderr)
        self.write("proc/77/comm", "irqbalance")
        self.assertIn("irqbalance runs (process 77)", self.run_script("show", "--cores", "0-3").stderr)


class CommandLine(Machine):
    def test_what_makes_no_sense_is_refused(self):
        self.plug([], 1, 1)
        cases = (
            (["bind"], "the first argument is"),
            (["apply", "--cores"], "needs a value"),
            (["revert", "--dry-run"], "--dry-run goes with apply"),
            (["apply", "--all"], "unknown argument: --all"),
            (["apply"], "neither interrupts of its own nor several queues"),
        )
        for arguments, reason in cases:
            with self.subTest(arguments):
                self.assertIn(reason, self.run_script(*arguments, code=3).stderr)

    def test_an_interface_that_is_not_there(self):
        self.write("sys/class/net/eth1/mtu", "1500")
        self.assertIn("there is no interface eth0", self.run_script("apply", code=3).stderr)


if __name__ == "__main__":
    unittest.main()
