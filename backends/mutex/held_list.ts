/** A node of a list of what a thread holds. */
export class HeldNode {
  /** The object that uses the node. The list keeps it reachable while the node is held. */
  owner: object | null = null;
  /**
   * The node that the thread took before this one and still holds, or the head of the list. Valid only while this node
   * is held.
   */
  before: this = this;
}

/**
 * The list of nodes that a thread holds. The newest one is `head.before`, and each node's `before` leads to the next
 * older one.
 */
export class HeldList<Node extends HeldNode> {
  /** The head of the list. Its `before` is the newest node, or the head itself if the list is empty. */
  declare readonly head: Node; // see sync/slot.ts

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

  /** Returns the node that was taken directly after `node`, or the head. */
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
