/** What the supervisor and the servers share: one segment, with a place for everything. */
import process from "node:process";
import { f64, layout, type LayoutValue, RateLimiter } from "../../collections/mod.ts";
import { type Counter, CounterBlock } from "../../sync/mod.ts";
import { Beside, besideShape } from "./beside.ts";
import { Orders, ordersShape } from "./orders.ts";

const KEY = "bun server";
/** What each client is allowed by all servers together. */
const LIMITER = {
  limit: Number(process.env["PER_SECOND"] ?? 2000),
  window: 1000,
  burst: Number(process.env["BURST"] ?? 2000),
  keys: 10_000,
};
/** For so many seconds back the dashboard shows how many requests there were. */
export const HISTORY_SECONDS = 60;

const shape = layout({
  counters: CounterBlock.of(500),
  orders: ordersShape,
  beside: besideShape,
  limiter: RateLimiter.of(LIMITER),
  history: f64(HISTORY_SECONDS),
});
type Shared = LayoutValue<typeof shape>;

/** The numbers of one server. They go on when it is replaced. */
export class ServerNumbers {
  /** Of its process; 0 while there is none. */
  readonly pid: Counter;
  /** When it was ready, in ms since 1970. */
  readonly since: Counter;
  /** Requests that it has begun and not answered. */
  readonly active: Counter;
  /** Answers to requests, of orders and others. */
  readonly requests: Counter;
  /** Answers that the client has sent too many requests. */
  readonly refused: Counter;
  readonly orders: Counter;
  /** How often the supervisor has replaced it. */
  readonly restarts: Counter;
  /** The number of the last news that it has seen. */
  readonly seen: Counter;

  constructor(block: CounterBlock, server: number) {
    this.pid = block.counter(`pid ${server}`);
    this.since = block.counter(`since ${server}`);
    this.active = block.counter(`active ${server}`);
    this.requests = block.counter(`requests ${server}`);
    this.refused = block.counter(`refused ${server}`);
    this.orders = block.counter(`orders ${server}`);
    this.restarts = block.counter(`restarts ${server}`);
    this.seen = block.counter(`seen ${server}`);
  }
}

export class State {
  readonly orders: Orders;
  readonly beside: Beside;
  readonly limiter: RateLimiter;
  readonly #block: CounterBlock;
  /** Requests per second, in a ring. */
  readonly #history: Float64Array;
  readonly #seconds: Counter;

  private constructor(shared: Shared) {
    this.#block = shared.counters;
    this.orders = new Orders(shared.orders, this.#block);
    this.beside = new Beside(shared.beside, this.#block);
    this.limiter = shared.limiter;
    this.#history = shared.history;
    this.#seconds = this.#block.counter("seconds");
  }

  /** For the supervisor: throws `AlreadyExists` if another one runs. */
  static create(servers: number): State {
    const initialize = ({ counters }: Shared) => counters.counter("servers").set(servers);
    return new State(shape.open(KEY, { disposition: "create", initialize }));
  }

  /** For a server. */
  static join(): State {
    return new State(shape.open(KEY, { disposition: "attach" }));
  }

  /** The numbers of a server; the first one is 1. */
  of(server: number): ServerNumbers {
    return new ServerNumbers(this.#block, server);
  }

  /** Notes how many requests there were in the last second. */
  remember(perSecond: number): void {
    this.#history[Number(this.#seconds.get()) % HISTORY_SECONDS] = perSecond;
    this.#seconds.add();
  }

  /** All numbers, for people and programs. */
  summary() {
    const count = Number(this.#block.counter("servers").get());
    const servers = Array.from({ length: count }, (_, i) => {
      const numbers = Object.entries(this.of(i + 1));
      return Object.fromEntries(
        numbers.map(([name, counter]) => [name, Number((counter as Counter).get())]),
      ) as Record<keyof ServerNumbers, number>;
    });
    const sum = (name: keyof ServerNumbers) =>
      servers.reduce((total, server) => total + server[name], 0);
    const seconds = Number(this.#seconds.get());
    const known = Math.min(seconds, HISTORY_SECONDS);
    return {
      active: sum("active"),
      requests: sum("requests"),
      refused: sum("refused"),
      restarts: sum("restarts"),
      orders: Number(this.#block.counter("orders").get()),
      repaired: Number(this.#block.counter("repaired").get()),
      ...this.beside.summary(
        servers.filter(({ pid }) => pid !== 0).map(({ seen }) => seen),
      ),
      /** Requests per second, the newest last. */
      history: Array.from(
        { length: known },
        (_, i) => this.#history[(seconds - known + i) % HISTORY_SECONDS]!,
      ),
      servers,
    };
  }
}
