/** What the objects of one type of keys can do. The data is plain: tests and documentation are generated from it. */
export interface Capabilities {
  /** The name of the type in texts. */
  readonly name: string;
  /** Whether `size()` is exactly the size that `create()` received. Otherwise it is rounded up to whole pages. */
  readonly exactSize: boolean;
  /** Whether a segment still exists after all its users were killed. */
  readonly survivesCrash: boolean;
  /** Whether a segment can have the lifetime `"until-removed"`. */
  readonly persistent: boolean;
  /** Whether a segment is removed with its last user, or when the object that created it detaches. */
  readonly removedWith: "lastUser" | "creator";
  /**
   * What happens to a lock whose holder was killed. `undone`: the kernel releases it at once. `takenOver`: a waiting
   * thread finds that the holder is dead and takes the lock over. `lost`: the lock stays held.
   */
  readonly killedHolder: "undone" | "takenOver" | "lost";
  /** Whether a transferred buffer shows private zeros after `detach()`. Otherwise it still shows the segment. */
  readonly zerosTransferred: boolean;
  /** Whether the error of a timed-out wait for the lock can name the process that holds it. */
  readonly namesHolder: boolean;
  /** Whether a `SystemSemaphore` gets back what a process had acquired when the process ended. */
  readonly semaphoreUndo: boolean;
  /** Whether mode Create of a `SystemSemaphore` sets the value of an existing semaphore, or leaves it as it is. */
  readonly semaphoreCreate: "sets" | "opens";
  /** Whether `permissions` can give other users access. */
  readonly permissions: boolean;
}
