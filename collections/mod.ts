/**
 * This module has what several processes keep in one segment: a {@linkcode layout} places primitives and typed arrays
 * in it by one declaration.
 *
 * @example
 * ```ts
 * import { f64, layout } from "./mod.ts";
 * import { Counter, Mutex } from "../sync/mod.ts";
 *
 * const Site = layout({ hits: Counter, state: Mutex, table: f64(1000) });
 * using site = Site.open("site");
 * site.hits.add();
 * site.state.withLock(() => site.table[3]! += 1);
 * ```
 *
 * @module
 */
export {
  Layout,
  layout,
  type LayoutMembers,
  type LayoutOf,
  type LayoutOptions,
  type LayoutValue,
  type OpenLayout,
} from "./layout.ts";
export { bytes, f32, f64, i16, i32, i64, i8, u16, u32, u64, u8 } from "./typed_arrays.ts";
export { WrongLayout } from "./wrong_layout.ts";
export type { LayoutMember } from "../sync/layout_member.ts";
