/** Agents that hang in the middle of a change, as if they were killed or stopped there. */
import { type Agent, until } from "./support.ts";

/** Returns code after which the `count`-th call of a function of Atomics does not return: it hangs before or after it. */
export function hangingIn(
  name: "store" | "exchange" | "add",
  count: number,
  isBefore: boolean,
): string {
  return `
    const real = Atomics.${name};
    let left = ${count};
    const hang = () => {
      console.error("hangs");
      for (;;);
    };
    Atomics.${name} = (...args) => {
      if (--left === 0 && ${isBefore}) hang();
      const result = real(...args);
      if (left === 0) hang();
      return result;
    };`;
}

/** Whether an agent has come to where it hangs. */
export function hangs(agent: Agent): boolean {
  return agent.stderr.includes("hangs");
}

/** Waits until an agent hangs. */
export async function untilHanging(agent: Agent): Promise<void> {
  await until(() => hangs(agent), "the change");
}
