/**
 * Views under one runtime: `<runtime> views.ts KEY MS` prints the ns of each element of a view, and of an ordinary buffer,
 * in loops that last so long, as one line of JSON.
 */
import process from "node:process";
import { SharedMemory } from "../mod.ts";
import { elementCosts, elementsBytes } from "./elements.ts";

const [key, ms] = process.argv.slice(2);
if (key === undefined || ms === undefined) throw new Error("usage: views.ts KEY MS");

using memory = SharedMemory.open(key, { size: elementsBytes, disposition: "create" });
using other = SharedMemory.open(key);
if (other.size() !== elementsBytes) throw new Error(`the segment has ${other.size()} bytes`);
const bytes = memory.view(Uint8Array);
const costs = elementCosts(bytes, Number(ms));

bytes.forEach((_, index) => bytes[index] = index * 7);
const same = other.view(Uint8Array).every((byte, index) => byte === (index * 7 & 0xff));
if (!same) throw new Error("the other object's view shows other bytes");
console.log(JSON.stringify(costs));
