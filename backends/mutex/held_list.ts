/** Something that a thread may hold. */
export class HeldNode {
  /** Who uses it, and is kept while it is held. */
  owner: object | null = null;
  /** While it is held: what the thread took before and holds still, or the head of the list. */
  before: this = this;
}

/** What a thread holds: the last one taken, and the others through `before`. */
export class HeldList<Node extends HeldNode> {
  /** Its `before` is the last one taken, or it itself. */
  declare readonly head: Node; // see Place

  constructor(head: Node) {
    this.head = head;
  }

  get isEmpty(): boolean {
    return this.head.before === this.head;
  }

  push(node: Node): void {
    const { head } = this;
    node.before = head.before;
    head.before = node;
  }

  /** Nothing happens if `node` is not held. */
  remove(node: Node): void {
    const { head } = this;
    const after = head.before === node ? head : this.after(node);
    if (after.before === node) after.before = node.before;
  }

  /** What was taken after `node`, or the head. */
  after(node: Node): Node {
    const { head } = this;
    for (let after = head; after.before !== head; after = after.before) {
      if (after.before === node) return after;
    }
    return head;
  }

  *[Symbol.iterator](): Generator<Node> {
    for (let node = this.head.before; node !== this.head; node = node.before) yield node;
  }
}
