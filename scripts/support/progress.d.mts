/** Shows a transfer on standard error: a bar on a terminal, a line at every tenth where it is not one. */
export declare function transferProgress(
  label: string,
  stream?: NodeJS.WriteStream,
): {
  update(progress: { readonly received: number; readonly total: number | undefined }): void;
  done(): void;
};
