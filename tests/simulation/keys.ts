/** The key files of the keys "k" and "s", as Qt names them. */
export const SEGMENT_KEY = "/tmp/qipc_sharedmemory_k13fbd79c3d390e5d6585a21e11ff5ec1970cff0c";
export const LOCK_KEY = "/tmp/qipc_systemsem_k13fbd79c3d390e5d6585a21e11ff5ec1970cff0c";
export const SEMAPHORE_KEY = "/tmp/qipc_systemsem_sa0f1490a20d0211c997b44bc357e1972deab8ae3";
