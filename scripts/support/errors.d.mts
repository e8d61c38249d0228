/** What the system said: "no space left on device (ENOSPC)", without the call and the path that Node puts around it. */
export declare function systemReason(error: NodeJS.ErrnoException): string;
