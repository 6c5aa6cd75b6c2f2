/** Real Qt and one of ours, in both orders: what one side begins the other joins. */
import { type Agent, needsQt, ownRuntime, slow, startAgent, startQt } from "./support.ts";

export const versions = [5, 6] as const;

/** The options of a test with that Qt. */
export function withQt(version: 5 | 6): TestOptions {
  return { ...slow, ...needsQt(version) };
}

interface TestOptions {
  skip?: string;
  timeout: number;
}

interface Side {
  readonly name: string;
  readonly isQt: boolean;
  readonly start: () => Agent;
}

export interface Pair {
  readonly first: Side;
  readonly second: Side;
  readonly options: TestOptions;
}

/** Every Qt with this runtime, either of them being the first. */
export const pairs: readonly Pair[] = versions.flatMap((version) => {
  const options = withQt(version);
  const qt = { name: `Qt ${version}`, isQt: true, start: () => startQt(version) };
  const ours = { name: ownRuntime.name, isQt: false, start: () => startAgent(ownRuntime) };
  return [{ first: ours, second: qt, options }, { first: qt, second: ours, options }];
});

/** Both processes with an object `m` on one segment of 16 bytes: the first made it. */
export async function startAttached({ first, second }: Pair, key: string): Promise<[Agent, Agent]> {
  const [creator, joiner] = [first.start(), second.start()];
  await Promise.all([creator.request("memory", "m", key), joiner.request("memory", "m", key)]);
  await expectTrue(creator, "create", 16);
  await expectTrue(joiner, "attach");
  return [creator, joiner];
}

/** Calls a method of the agent's object `m`, which must return true. */
export async function expectTrue(agent: Agent, method: string, ...args: unknown[]): Promise<void> {
  if (await agent.call("m", method, ...args) === true) return;
  throw new Error(`${agent.name} ${method}: ${await agent.call("m", "errorString")}`);
}
