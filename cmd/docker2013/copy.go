package main

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"docker2013/cli2013"
)

// copyCommand is `cp`: of image names as in 2013, of files as since 2014.
func (a *app) copyCommand() *cobra.Command {
	cmd := newCommand(groupFiles, "cp [-L] [-a] SRC DEST",
		"Copy files out of a container or into one; or name an image", arity(2, 2))
	cmd.Long = "Copy a file or a folder out of a container, or into one: SRC or DEST is\n" +
		"CONTAINER:/PATH, running or not, the other a path here, or - for a tar on a\n" +
		"standard stream. Into a folder that is there it is copied under its own name,\n" +
		"else it gets the name that is given; SRC/. is a folder's content. Permissions\n" +
		"and times are kept, owners become root's in a container and yours here.\n\n" +
		"cp IMAGE NAME does what it did in 2013: it gives the image's layers a second\n" +
		"name."
	cmd.Example = "  docker2013 cp cefccf5b:/etc/passwd .\n" +
		"  docker2013 cp ./site/. cefccf5b:/srv/www\n" +
		"  docker2013 cp cefccf5b:/var/log - | tar t\n" +
		"  docker2013 cp base mine"
	f := cmd.Flags()
	follow := f.BoolP("follow-link", "L", false, "copy what SRC, a symbolic link, leads to")
	archive := f.BoolP("archive", "a", false, "keep the owners of what is copied into a container")
	mark(cmd, markOurs, "archive", "follow-link")
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		names, _ := a.completion(containersAndImages, 2)(cmd, args, typed)
		return names, cobra.ShellCompDirectiveDefault // and files
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		src, dst := args[0], args[1]
		call := cli2013.Call{Args: []string{"cp"}}
		switch from, to := inContainer(src), inContainer(dst); {
		case from && to:
			return errors.New("cp: from one container to another it goes through here: cp A:/PATH - | docker2013 cp - B:/FOLDER")
		case from:
			if *follow {
				call.Args = append(call.Args, "-L")
			}
			call.Args = append(call.Args, src, "-")
			return a.copyOut(cmd, call, src, dst)
		case to:
			return a.copyIn(cmd, call, localSource{path: src, follow: *follow, owners: *archive}, dst)
		}
		call.Args = append(call.Args, src, dst)
		return a.make(cmd.Context(), call)
	}
	return cmd
}

// inContainer understands CONTAINER:/PATH as the daemon does. ./a:/b is a file here.
func inContainer(s string) bool {
	name, file, ok := strings.Cut(s, ":")
	return ok && name != "" && !strings.ContainsAny(name, "/") && strings.HasPrefix(file, "/") && !strings.HasPrefix(file, "//")
}

// copyOut copies to a file or folder here.
func (a *app) copyOut(cmd *cobra.Command, call cli2013.Call, src, dst string) error {
	if dst == "-" {
		if a.stdoutIsTTY {
			return errors.New("cp: a terminal can't show a tar; redirect standard output")
		}
		return a.make(cmd.Context(), call)
	}
	content := strings.HasSuffix(src, "/.") || strings.HasSuffix(src, ":/")
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := unpackHere(r, dst, content)
		_ = r.CloseWithError(errors.Join(err, io.ErrClosedPipe)) // nobody reads on
		done <- err
	}()
	call.Stdout = w
	err := a.make(cmd.Context(), call)
	_ = w.Close()
	unpacked := <-done
	switch {
	case err != nil:
		return err
	case a.status != 0 && (unpacked == nil || errors.Is(unpacked, io.ErrUnexpectedEOF)):
		return nil // the daemon has said why
	case unpacked != nil:
		return fmt.Errorf("cp: %w", unpacked)
	}
	return nil
}

// unpackHere writes a tar of one file or folder as dst, or into it if it is a
// folder. Nothing in the tar can name a place outside of that (os.Root).
func unpackHere(r io.Reader, dst string, content bool) error {
	in := tar.NewReader(bufio.NewReaderSize(r, 1<<20))
	first, err := in.Next()
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	isDir := first.Typeflag == tar.TypeDir
	info, err := os.Stat(dst)
	dir, as := filepath.Dir(dst), filepath.Base(dst)
	switch {
	case err == nil && info.IsDir() && content:
		dir, as = dst, "."
	case err == nil && info.IsDir():
		dir, as = dst, path.Base(path.Clean(first.Name))
	case err == nil && isDir:
		return fmt.Errorf("%s: a folder can't be copied onto a file", dst)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err != nil && !isDir && strings.HasSuffix(dst, "/"):
		return fmt.Errorf("%s: there is no such folder", dst)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return unpackInto(root, in, first, as)
}

// unpackInto writes first, and all other entries of in, which are part of it.
func unpackInto(root *os.Root, in *tar.Reader, first *tar.Header, as string) error {
	top := path.Clean(first.Name)
	type folder struct {
		name string
		hdr  *tar.Header
	}
	var folders []folder
	for hdr := first; ; {
		name := path.Clean(hdr.Name)
		if top != "." {
			name = strings.TrimPrefix(strings.TrimPrefix(name, top), "/")
		}
		name = filepath.Join(as, name)
		if err := unpackOne(root, in, hdr, name, top, as); err != nil {
			return err
		}
		if hdr.Typeflag == tar.TypeDir {
			folders = append(folders, folder{name, hdr})
		}
		var err error
		if hdr, err = in.Next(); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
	}
	// A folder's mode and time last: it may forbid what had to be written into it.
	for i := len(folders) - 1; i >= 0; i-- {
		f := folders[i]
		if err := errors.Join(root.Chmod(f.name, f.hdr.FileInfo().Mode().Perm()), root.Chtimes(f.name, f.hdr.ModTime, f.hdr.ModTime)); err != nil {
			return err
		}
	}
	return nil
}

func unpackOne(root *os.Root, in *tar.Reader, hdr *tar.Header, name, top, as string) error {
	info, err := root.Lstat(name)
	if err == nil && !(info.IsDir() && hdr.Typeflag == tar.TypeDir) {
		if err := root.Remove(name); err != nil {
			return err
		}
	}
	switch hdr.Typeflag {
	case tar.TypeDir:
		if err := root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, in)
		err = errors.Join(err, f.Chmod(hdr.FileInfo().Mode().Perm()), f.Close())
		if err != nil {
			return err
		}
		return root.Chtimes(name, hdr.ModTime, hdr.ModTime)
	case tar.TypeSymlink:
		return root.Symlink(hdr.Linkname, name)
	case tar.TypeLink:
		target := path.Clean(hdr.Linkname)
		if top != "." {
			target = strings.TrimPrefix(strings.TrimPrefix(target, top), "/")
		}
		return root.Link(filepath.Join(as, target), name)
	default: // a device or a pipe is not for here
		fmt.Fprintf(os.Stderr, "docker2013: cp: %s: left out, it is neither file, folder nor link\n", hdr.Name)
		return nil
	}
}

// localSource is what is copied from here.
type localSource struct {
	path           string
	follow, owners bool
}

// copyIn copies a file or folder of here into a container.
func (a *app) copyIn(cmd *cobra.Command, call cli2013.Call, src localSource, dst string) error {
	if src.path == "-" {
		if a.stdinIsTTY {
			return errors.New("cp: a tar can't be typed; redirect standard input")
		}
		call.Args = append(call.Args, "-", dst)
		call.Stdin = a.client.Stdin
		return a.make(cmd.Context(), call)
	}
	stat := os.Lstat
	if src.follow {
		stat = os.Stat
	}
	if _, err := stat(src.path); err != nil {
		return fmt.Errorf("cp: %w", err)
	}
	top, err := filepath.Abs(src.path)
	if err != nil {
		return fmt.Errorf("cp: %w", err)
	}
	name := filepath.Base(top)
	if src.path == "." || strings.HasSuffix(src.path, "/.") {
		name += "/."
	}
	call.Args = append(call.Args, "-from", name, "-", dst)
	r, w := io.Pipe()
	failed := make(chan error, 1)
	go func() {
		buffered := bufio.NewWriterSize(w, 1<<20)
		err := src.pack(buffered)
		if err == nil {
			err = buffered.Flush()
		}
		_ = w.CloseWithError(err)
		failed <- err
	}()
	call.Stdin = r
	err = a.make(cmd.Context(), call)
	_ = r.Close()
	if packed := <-failed; err == nil && packed != nil && !errors.Is(packed, io.ErrClosedPipe) {
		return fmt.Errorf("cp: %w", packed)
	}
	return err
}

// pack writes the file or folder as a tar.
func (s localSource) pack(w io.Writer) error {
	out := tar.NewWriter(w)
	top := s.path
	if s.follow {
		var err error
		if top, err = filepath.EvalSymlinks(top); err != nil {
			return err
		}
	}
	base := filepath.Base(s.path)
	if base == ".." || base == "/" {
		base = "."
	}
	err := filepath.WalkDir(top, func(file string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, file)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) && file != top {
			return nil // it has gone meanwhile
		}
		if err != nil {
			return err
		}
		return s.packOne(out, file, path.Join(base, filepath.ToSlash(rel)), info)
	})
	if err != nil {
		return err
	}
	return out.Close()
}

func (s localSource) packOne(out *tar.Writer, file, name string, info fs.FileInfo) error {
	if info.Mode()&fs.ModeSocket != 0 {
		return nil
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if link, err = os.Readlink(file); err != nil {
			return err
		}
	}
	hdr, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	hdr.Name, hdr.Format = name, tar.FormatPAX
	if info.IsDir() {
		hdr.Name += "/"
	}
	hdr.Uname, hdr.Gname = "", ""
	if !s.owners {
		hdr.Uid, hdr.Gid = 0, 0
	}
	if !info.Mode().IsRegular() {
		return out.WriteHeader(hdr)
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	if err := out.WriteHeader(hdr); err != nil {
		return err
	}
	if n, err := io.CopyN(out, f, hdr.Size); err != nil {
		return fmt.Errorf("%s: it shrank from %d to %d bytes while it was read: %w", file, hdr.Size, n, err)
	}
	return nil
}
