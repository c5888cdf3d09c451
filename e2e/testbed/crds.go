package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
)

// applyCRDs creates the definitions of all files and waits until they are established. It comes before the controllers:
// the garbage collector learns of later kinds only every 30 s.
func applyCRDs(ctx context.Context, config *rest.Config, paths []string) (int, error) {
	client, err := apiextensions.NewForConfig(config)
	if err != nil {
		return 0, err
	}
	api := client.ApiextensionsV1().CustomResourceDefinitions()
	var names []string
	for _, path := range paths {
		definitions, err := readCRDs(path)
		if err != nil {
			return 0, err
		}
		for _, definition := range definitions {
			if _, err := api.Create(ctx, definition, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
				return 0, fmt.Errorf("%s: %w", path, err)
			}
			names = append(names, definition.Name)
		}
	}
	for _, name := range names {
		err := poll(ctx, nil, func() error {
			definition, err := api.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, condition := range definition.Status.Conditions {
				if condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue {
					return nil
				}
			}
			return fmt.Errorf("%s is not established: %v", name, definition.Status.Conditions)
		})
		if err != nil {
			return 0, err
		}
	}
	return len(names), nil
}

// readCRDs reads the definitions of a file, or of the YAML files of a folder.
func readCRDs(path string) ([]*apiextensionsv1.CustomResourceDefinition, error) {
	files := []string{path}
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if info.IsDir() {
		found, err := filepath.Glob(filepath.Join(path, "*.yaml"))
		if err != nil {
			return nil, err
		}
		files = found
	}
	var definitions []*apiextensionsv1.CustomResourceDefinition
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
		for {
			definition := &apiextensionsv1.CustomResourceDefinition{}
			err := decoder.Decode(definition)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			if definition.Kind == "CustomResourceDefinition" {
				definitions = append(definitions, definition)
			}
		}
	}
	return definitions, nil
}
