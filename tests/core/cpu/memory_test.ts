import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { Heap } from "../../../core/cpu/memory.ts";
import { DeviceError } from "../../../core/errors.ts";

const MiB = 2 ** 20;

Deno.test("blocks never overlap, and all comes back", () => {
  const bytes = fc.constantFrom(0, 1, 63, 64, 65, 1000, 4096, 100_000);
  const commands = fc.array(fc.tuple(bytes, fc.nat()), { maxLength: 100 });
  const property = fc.property(commands, (list) => {
    const heap = new Heap(64 * MiB);
    const held: { address: number; bytes: number }[] = [];
    for (const [bytes, choice] of list) {
      if (choice % 3 === 0 && held.length > 0) {
        const [block] = held.splice(choice % held.length, 1);
        heap.free(block!.address, block!.bytes);
        continue;
      }
      const address = heap.allocate(bytes);
      assert(address > 0 && address % 64 === 0);
      assert(address + bytes <= heap.reservedBytes);
      for (const other of held) {
        assert(
          address !== other.address &&
            (address + bytes <= other.address ||
              other.address + other.bytes <= address),
        );
      }
      held.push({ address, bytes });
    }
    for (const { address, bytes } of held) heap.free(address, bytes);
    assertEquals(heap.usedBytes, 0);
    // One block is left, from the start: everything joined.
    const before = heap.reservedBytes;
    assertEquals(heap.allocate(before - 128), 64);
    assertEquals(heap.reservedBytes, before);
  });
  fc.assert(property, { numRuns: 100 });
});

Deno.test("a loop that allocates and frees the same sizes stops growing", () => {
  const heap = new Heap(64 * MiB);
  const sizes = [100_000, 64, 5_000, 300_000, 64, 12_345];
  let held: number[] = [];
  const step = () => {
    const next = sizes.map((bytes) => heap.allocate(bytes));
    held.forEach((address, i) => heap.free(address, sizes[i]!));
    held = next;
  };
  for (let i = 0; i < 3; i++) step();
  const { reservedBytes } = heap;
  const addresses = new Set<number>();
  for (let i = 0; i < 1000; i++) {
    step();
    held.forEach((address) => addresses.add(address));
  }
  assertEquals(heap.reservedBytes, reservedBytes);
  assert(addresses.size <= 4 * sizes.length);
});

Deno.test("the error for too little memory names what was asked, what is used and what there is", () => {
  const heap = new Heap(MiB);
  heap.allocate(600_000);
  assertThrows(
    () => heap.allocate(500_000),
    DeviceError,
    "Cannot allocate a block: it takes 488.3 KiB, and 585.9 KiB of 1 MiB are in use; a smaller batch needs less",
  );
  assertEquals(heap.usedBytes, 600_000);
  heap.allocate(400_000);
});

Deno.test("a block that is freed twice is a bug", () => {
  const heap = new Heap(MiB);
  const [first] = [heap.allocate(64), heap.allocate(64)];
  heap.free(first!, 64);
  assertThrows(() => heap.free(first!, 64), Error, "a block was freed twice");
});
